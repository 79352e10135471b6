"""The loss of a judgment: is A or B closer to the reference?"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from iqazoo.errors import InputError
from iqazoo.ops.backend import FLOATS, Backend, choose, dense, launch, module
from iqazoo.ops.roads import gradients_by_torch, op

Kind = Literal["bce", "mse", "margin"]
Reduction = Literal["none", "sum", "mean"]
Ties = Literal["half", "first"]

KINDS: dict[Kind, int] = {"bce": 0, "mse": 1, "margin": 2}  # as the kernels number them
REDUCTIONS: dict[Reduction, int] = {"none": 0, "sum": 1, "mean": 2}
TIES: dict[Ties, int] = {"first": 0, "half": 1}
NULL = 0  # an address: the kernel is not to write there


class PairwiseResult(NamedTuple):
    """A loss, and how often the scores agree with the judgments; each `[]`, or `[N]` with reduction="none"."""

    loss: Tensor
    agreement: Tensor


def pairwise_loss(
    score_a: Tensor,
    score_b: Tensor,
    preference: Tensor,
    *,
    kind: Kind = "bce",
    lower_is_better: bool,
    margin: float = 0.1,
    reduction: Reduction = "mean",
    ties: Ties = "half",
    backend: Backend = "auto",
) -> PairwiseResult:
    """How far the scores of A and B are from people's judgments.

    With d = score if lower_is_better, else -score, so that larger d is worse, and z = d_A - d_B, the scores say
    P(B preferred) = sigmoid(z). The loss of one judgment h is

        "bce"     -h log sigmoid(z) - (1 - h) log sigmoid(-z)
        "mse"     (sigmoid(z) - h)^2
        "margin"  h max(0, margin - z) + (1 - h) max(0, margin + z); at the hinge its gradient is that of z inside,
                  as in torch.nn.functional.margin_ranking_loss

    Loss and gradient are finite for all finite z. The agreement is the 2AFC score (Zhang et al. 2018, "The
    Unreasonable Effectiveness of Deep Features as a Perceptual Metric"): h where z > 0, 1 - h where z < 0.
    Differentiable in the scores, as often as wanted; the agreement has no gradient.

    Args:
        score_a: `[N]`, floating point, any range.
        score_b: `[N]`.
        preference: `[N]` in [0, 1], the fraction that preferred B; not checked, as that would wait for a device.
        kind: which loss.
        lower_is_better: whether the smaller score is the better one.
        margin: of kind "margin", in units of the score.
        reduction: "mean", "sum", or "none" for `[N]`. The agreement is the mean, or `[N]` for "none".
        ties: what equal scores are worth: "half" a judgment, or 1 - h as if A "first" had won, which is what LPIPS's
            training reports.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        Both float64 where an input is, else float32. For N = 0 the means are NaN, as torch's, the sum is 0.
        NaN in gives NaN out.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, or preference requires a gradient.
    """
    if kind not in KINDS or reduction not in REDUCTIONS or ties not in TIES:
        _refuse_options(kind, reduction, ties)
    check_judgments("pairwise_loss", score_a, score_b, preference)
    if not score_a.dtype is score_b.dtype is preference.dtype or score_a.dtype not in FLOATS:
        score_a, score_b, preference = promoted(score_a, score_b, preference)
    if choose(backend, score_a, score_b, preference) == "torch":
        return reference_pairwise_loss(
            score_a,
            score_b,
            preference,
            kind=kind,
            lower_is_better=lower_is_better,
            margin=margin,
            reduction=reduction,
            ties=ties,
        )
    learns = torch.is_grad_enabled() and (score_a.requires_grad or score_b.requires_grad)
    settings = [KINDS[kind], int(lower_is_better), REDUCTIONS[reduction], TIES[ties], int(learns)]
    return PairwiseResult._make(_fused(score_a, score_b, preference, float(margin), settings))


def reference_pairwise_loss(
    score_a: Tensor,
    score_b: Tensor,
    preference: Tensor,
    *,
    kind: Kind = "bce",
    lower_is_better: bool,
    margin: float = 0.1,
    reduction: Reduction = "mean",
    ties: Ties = "half",
) -> PairwiseResult:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    score_a, score_b, h = promoted(score_a, score_b, preference)
    z = score_a - score_b if lower_is_better else score_b - score_a  # [N]
    if kind == "bce":
        loss = bce_of(z, h)
    elif kind == "mse":
        loss = (torch.sigmoid(z) - h).square()
    else:
        loss = h * (margin - z).clamp_min(0) + (1 - h) * (margin + z).clamp_min(0)
    return PairwiseResult(reduced(loss, reduction), agreement_of(z.detach(), h, ties, reduction))


def bce_of(z: Tensor, preference: Tensor) -> Tensor:
    """-h log sigmoid(z) - (1 - h) log sigmoid(-z), finite for finite z, `[N]`."""
    return -preference * F.logsigmoid(z) - (1 - preference) * F.logsigmoid(-z)


def agreement_of(z: Tensor, preference: Tensor, ties: Ties, reduction: Reduction) -> Tensor:
    """The 2AFC score of z = d_A - d_B, d being larger for the worse: `[N]` for reduction "none", else its mean."""
    clear = torch.where(z > 0, preference, 1 - preference)
    tied = 0.5 + 0 * preference if ties == "half" else clear  # NaN stays
    known = torch.where(z == 0, tied, clear)
    agreement = torch.where(z.isnan(), z, known)
    return agreement if reduction == "none" else agreement.mean()


def reduced(loss: Tensor, reduction: Reduction) -> Tensor:
    """`[N]` as it is, or its sum or mean, `[]`."""
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.mean()


def promoted(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All as float64 where one is, else as float32."""
    dtypes = {t.dtype for t in tensors}
    if len(dtypes) == 1 and tensors[0].dtype in FLOATS:
        return tensors  # each conversion, if to the same, takes a microsecond
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    return tuple(t.to(dtype) for t in tensors)


def check_judgments(name: str, score_a: Tensor, score_b: Tensor, preference: Tensor) -> None:
    """Raise InputError unless these are three `[N]` of floating point. Looks at no value."""
    flat = score_a.ndim == score_b.ndim == preference.ndim == 1
    if not flat or not score_a.numel() == score_b.numel() == preference.numel():  # sooner had than shapes
        raise InputError(
            f"{name} takes score_a, score_b and preference of one shape [N]; got {list(score_a.shape)}, "
            f"{list(score_b.shape)} and {list(preference.shape)}; flatten them with x.flatten()"
        )
    if not (score_a.is_floating_point() and score_b.is_floating_point() and preference.is_floating_point()):
        dtypes = f"{score_a.dtype}, {score_b.dtype} and {preference.dtype}"
        raise InputError(f"{name} takes floating point, got {dtypes}; convert with .float()")
    if preference.requires_grad:
        raise InputError(f"{name} has no gradient for preference; pass preference.detach()")


def _refuse_options(kind: str, reduction: str, ties: str) -> None:
    for option, value, known in (("kind", kind, KINDS), ("reduction", reduction, REDUCTIONS), ("ties", ties, TIES)):
        if value not in known:
            raise InputError(f"{option} must be one of {', '.join(map(repr, known))}; got {value!r}")


def _forward(
    score_a: Tensor, score_b: Tensor, preference: Tensor, margin: float, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, agreement, and d loss / d score_a, which is empty unless `learns`; d loss / d score_b is its negative.

    Few arguments, few allocations: for the usual batch the time goes into calls, not into arithmetic.
    """
    loss, agreement, gradient = outputs = _fake(score_a, score_b, preference, margin, settings)
    kind, lower_is_better, reduction, half, learns = settings
    size, backend = score_a.numel(), "cpu" if score_a.is_cpu else "cuda"  # device.type alone takes 1 us
    tensors = [dense(score_a), dense(score_b), dense(preference), loss, agreement, gradient if learns else NULL]
    if backend == "cuda":
        tensors.append(score_a.new_empty(module(backend).pairwise_partials(size), dtype=torch.float64))
    launch(backend, "pairwise", *tensors, size, kind, lower_is_better, margin, reduction, half)
    return outputs


def _fake(
    score_a: Tensor, score_b: Tensor, preference: Tensor, margin: float, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty outputs. Contiguous, whatever the strides of the scores."""
    _, _, reduction, _, learns = settings
    loss = score_a.new_empty(() if reduction else score_a.shape)
    gradient = torch.empty_like(score_a) if learns else score_a.new_empty(0)  # of one dimension: contiguous
    return loss, torch.empty_like(loss), gradient


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, agreement, gradient = output
    score_a, score_b, preference, ctx.margin, ctx.settings = inputs
    ctx.save_for_backward(score_a, score_b, preference)
    ctx.gradient = gradient
    ctx.mark_non_differentiable(agreement, gradient)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    if torch.is_grad_enabled():  # with create_graph this is differentiated in turn
        needed = (*ctx.needs_input_grad[:2], False)
        return (
            *gradients_by_torch(lambda *given: _loss_again(ctx, *given), ctx.saved_tensors, needed, grad),
            None,
            None,
        )
    for_a, for_b, _, _, _ = ctx.needs_input_grad
    towards_a = ctx.gradient * grad
    return towards_a if for_a else None, -towards_a if for_b else None, None, None, None


def _loss_again(ctx: Any, score_a: Tensor, score_b: Tensor, preference: Tensor) -> Tensor:
    kind, lower_is_better, reduction, _, _ = ctx.settings
    return reference_pairwise_loss(
        score_a,
        score_b,
        preference,
        kind=_name(KINDS, kind),
        lower_is_better=bool(lower_is_better),
        margin=ctx.margin,
        reduction=_name(REDUCTIONS, reduction),
    ).loss


def _name(numbers: dict[Any, int], number: int) -> Any:
    return next(name for name in numbers if numbers[name] == number)


_fused = op("pairwise_loss", _forward, fake=_fake, setup_context=_setup_context, backward=_backward, internal=1)
