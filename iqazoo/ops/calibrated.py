"""The loss of a judgment through the small network that LPIPS trains beside its metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, ones_like, zeros_like
from torch.nn import functional as F

from iqazoo.errors import InputError
from iqazoo.ops.backend import Backend, choose, dense, launch, module, transformed
from iqazoo.ops.pairwise import (
    NULL,
    REDUCTIONS,
    PairwiseResult,
    Reduction,
    agreement_of,
    bce_of,
    check_judgments,
    promoted,
    reduced,
)
from iqazoo.ops.roads import gradients_by_torch, op

Compat = Literal["bceloss"]

EPS = 0.1
SLOPE = 0.2  # of LeakyReLU
SHAPES = ((32, 5), (32,), (32, 32), (32,), (1, 32), (1,))  # w1, b1, w2, b2, w3, b3
SIZES = [160, 32, 1024, 32, 32, 1]
NAMES: tuple[Reduction, ...] = ("none", "sum", "mean")  # as REDUCTIONS numbers them


def calibrated_pairwise_loss(
    score_a: Tensor,
    score_b: Tensor,
    preference: Tensor,
    weights: Sequence[Tensor] | Tensor,
    *,
    lower_is_better: bool,
    compat: Compat | None = None,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
    check: bool = False,
) -> PairwiseResult:
    """How far a small network, given the scores of A and B, is from people's judgments.

    The network is LPIPS's Dist2LogitLayer (Zhang et al. 2018): from x = [d0, d1, d0 - d1, d0 / (d1 + 0.1),
    d1 / (d0 + 0.1)] by layers of 5 -> 32 -> 32 -> 1 with LeakyReLU(0.2) to the logit of P(B preferred). d0, d1 are the
    scores of A, B where lower is better, LPIPS's own order; else those of B, A. So in both cases d0 > d1 says that B
    is better, as z > 0 in `pairwise_loss`, and a quality that is never negative stays so.

    Differentiable in scores and weights, as often as wanted; the agreement, as in `pairwise_loss` with ties a half,
    compares the scores, not the logit, and has no gradient.

    Args:
        score_a: `[N]`, floating point, not negative: near -0.1 a ratio has a pole.
        score_b: `[N]`.
        preference: `[N]` in [0, 1], the fraction that preferred B (LPIPS's `judge`); not checked.
        weights: w1 `[32, 5]`, b1 `[32]`, w2 `[32, 32]`, b2 `[32]`, w3 `[1, 32]`, b3 `[1]`, as torch.nn.Linear has them;
            or all of them, one after the other, as one `[1281]`, which takes less time.
        lower_is_better: whether the smaller score is the better one.
        compat: "bceloss" computes BCELoss(sigmoid(logit)) as LPIPS's training does: once the sigmoid rounds to 0 or 1,
            the loss is up to 100 and the gradient 0. None uses the logit, where neither saturates.
        reduction: "mean", "sum", or "none" for `[N]`. The agreement is the mean, or `[N]` for "none".
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.
        check: whether to look for scores that are negative or NaN; waits for the device.

    Returns:
        Both float64 where an input is, else float32. For N = 0 the means are NaN, as torch's, the sum is 0.
        NaN in gives NaN out.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, preference requires a gradient, or under
            `check` a score is negative.
    """
    _check_options(compat, reduction)
    check_judgments("calibrated_pairwise_loss", score_a, score_b, preference)
    weights = _flat(weights, score_a.device)
    if check:
        _check_scores(score_a, score_b)
    first, second, preference, weights = promoted(score_a, score_b, preference, weights)
    if not lower_is_better:
        first, second = second, first
    if choose(backend, first, second, preference, weights) == "torch":
        return _reference(first, second, preference, weights, compat, reduction)
    learns = torch.is_grad_enabled() and (first.requires_grad or second.requires_grad or weights.requires_grad)
    settings = [int(compat == "bceloss"), REDUCTIONS[reduction], int(learns)]
    return PairwiseResult(*_fused(first, second, preference, weights, settings))


def reference_calibrated_pairwise_loss(
    score_a: Tensor,
    score_b: Tensor,
    preference: Tensor,
    weights: Sequence[Tensor] | Tensor,
    *,
    lower_is_better: bool,
    compat: Compat | None = None,
    reduction: Reduction = "mean",
) -> PairwiseResult:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    flat = _flat(weights, score_a.device)
    first, second, preference, flat = promoted(score_a, score_b, preference, flat)
    if not lower_is_better:
        first, second = second, first
    return _reference(first, second, preference, flat, compat, reduction)


def _reference(
    first: Tensor, second: Tensor, preference: Tensor, weights: Tensor, compat: Compat | None, reduction: Reduction
) -> PairwiseResult:
    w1, b1, w2, b2, w3, b3 = [w.view(shape) for w, shape in zip(weights.split(SIZES), SHAPES, strict=True)]
    ratios = first / (second + EPS), second / (first + EPS)
    x = torch.stack((first, second, first - second, *ratios), 1)  # [N, 5]
    hidden = F.leaky_relu(F.linear(x, w1, b1), SLOPE)  # [N, 32]
    hidden = F.leaky_relu(F.linear(hidden, w2, b2), SLOPE)  # [N, 32]
    logit = F.linear(hidden, w3, b3).squeeze(1)  # [N]
    if compat is None:
        loss = bce_of(logit, preference)
    else:
        p = torch.sigmoid(logit)
        known = p.nan_to_num(0.5)  # torch's function refuses NaN, and targets that are not in [0, 1]
        for_b, for_a = (F.binary_cross_entropy(known, t, reduction="none") for t in (ones_like(p), zeros_like(p)))
        loss = torch.where(p.isnan(), p, preference * for_b + (1 - preference) * for_a)
    agreement = agreement_of((first - second).detach(), preference, "half", reduction)
    return PairwiseResult(reduced(loss, reduction), agreement)


def _check_options(compat: str | None, reduction: str) -> None:
    if compat not in (None, "bceloss"):
        raise InputError(f'compat must be None or "bceloss"; got {compat!r}')
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}")


def _flat(weights: Sequence[Tensor] | Tensor, device: torch.device) -> Tensor:
    """All weights as one `[1281]`."""
    given = [weights] if isinstance(weights, Tensor) else weights
    shapes = tuple(tuple(w.shape) for w in given)
    if shapes not in (SHAPES, ((sum(SIZES),),)):
        raise InputError(
            f"weights must be w1, b1, w2, b2, w3, b3 of shapes {SHAPES}, "
            f"or one tensor of all {sum(SIZES)}; got {shapes}"
        )
    if not all(w.is_floating_point() and w.device == device for w in given):
        found = ", ".join(f"{w.dtype} on {w.device}" for w in given)
        raise InputError(f"weights must be floating point on the scores' device, {device}; got {found}")
    return given[0] if len(given) == 1 else torch.cat([w.reshape(-1) for w in given])


def _check_scores(score_a: Tensor, score_b: Tensor) -> None:
    if score_a.numel() and not bool(((score_a >= 0) & (score_b >= 0)).all()):  # NaN fails too
        least = torch.minimum(score_a, score_b).min().item()
        raise InputError(
            f"calibrated_pairwise_loss takes scores of 0 or more, got {least:g}; the network divides by score + {EPS}: "
            "pass score - best where lower is better, best - score with lower_is_better=True where higher is"
        )


def _forward(
    first: Tensor, second: Tensor, preference: Tensor, weights: Tensor, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss, agreement, gradients in first, second and weights, for an incoming gradient of 1.

    The gradients are empty unless `learns`, and for reduction "none": there the incoming gradients must be known.
    """
    outputs = _fake(first, second, preference, weights, settings)
    saturating, reduction, learns = settings
    grads = outputs[2:] if learns and reduction else (NULL,) * 3
    _launch((first, second, preference, weights), NULL, (*outputs[:2], *grads), saturating, reduction)
    return outputs


def _fake(
    first: Tensor, second: Tensor, preference: Tensor, weights: Tensor, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    _, reduction, learns = settings
    shape = () if reduction else first.shape
    n, m = (first.shape[0], weights.shape[0]) if learns and reduction else (0, 0)
    empty = first.new_empty
    return empty(shape), empty(shape), empty(n), empty(n), empty(m)


def _forward_gradients(
    incoming: Tensor, first: Tensor, second: Tensor, preference: Tensor, weights: Tensor, saturating: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in first, second and weights for reduction "none", given that in each loss, `[N]`."""
    inputs = (first, second, preference, weights)
    grads = _fake_gradients(incoming, *inputs, saturating)
    _launch(inputs, dense(incoming), (NULL, NULL, *grads), saturating, REDUCTIONS["none"])
    return grads


def _fake_gradients(
    incoming: Tensor, first: Tensor, second: Tensor, preference: Tensor, weights: Tensor, saturating: int
) -> tuple[Tensor, Tensor, Tensor]:
    return first.new_empty(first.shape), first.new_empty(first.shape), first.new_empty(weights.shape)


def _launch(
    inputs: Sequence[Tensor],
    incoming: Tensor | int,
    outputs: Sequence[Tensor | int],
    saturating: int,
    reduction: int,
) -> None:
    first, backend = inputs[0], inputs[0].device.type
    scratch = ()
    if backend == "cuda":
        doubles = module(backend).calibrated_pairwise_partials(len(first))
        scratch = (first.new_empty(doubles, dtype=torch.float64),)
    tensors = [dense(t) for t in inputs]
    launch(backend, "calibrated_pairwise", *tensors, incoming, *outputs, *scratch, len(first), saturating, reduction)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, agreement, *grads = output
    ctx.save_for_backward(*inputs[:4], *grads)
    ctx.settings = inputs[4]
    ctx.mark_non_differentiable(agreement, *grads)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, inputs, grads = incoming[0], ctx.saved_tensors[:4], ctx.saved_tensors[4:]
    needed = ctx.needs_input_grad[:4]
    if grad is None:
        return (None,) * 5
    if torch.is_grad_enabled() or transformed(grad):  # with create_graph this is differentiated in turn
        return (*gradients_by_torch(lambda *given: _loss_again(ctx, *given), inputs, needed, grad), None)
    saturating, reduction, _ = ctx.settings
    if reduction:
        to_first, to_second, to_weights = (g * grad for g in grads)
    else:
        to_first, to_second, to_weights = _gradients(grad, *inputs, saturating)
    found = (to_first, to_second, None, to_weights)
    return *(f if need else None for f, need in zip(found, needed, strict=True)), None


def _loss_again(ctx: Any, first: Tensor, second: Tensor, preference: Tensor, weights: Tensor) -> Tensor:
    saturating, reduction, _ = ctx.settings
    compat = "bceloss" if saturating else None
    return _reference(first, second, preference, weights, compat, NAMES[reduction]).loss


_fused = op("calibrated_pairwise", _forward, fake=_fake, setup_context=_setup_context, backward=_backward, internal=3)
_gradients = op("calibrated_pairwise_gradients", _forward_gradients, fake=_fake_gradients)
