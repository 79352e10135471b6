"""A ranking loss over all pairs of a batch, in O(N) memory, with the counts of how its pairs compare."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.backend import Backend, choose, dense, launch, module
from iqazoo.ops.pairwise import bce_of
from iqazoo.ops.roads import op

Kind = Literal["ranknet", "margin", "fidelity"]
Reduction = Literal["mean", "sum"]
KINDS: tuple[str, ...] = get_args(Kind)  # their order is that of the kernels' enum
EPSILON = 1e-8  # under the fidelity's roots, as in LIQE


class RankingResult(NamedTuple):
    """A loss and how the pairs compare; tensors without dimensions, the counts int64."""

    loss: Tensor
    concordant: Tensor
    discordant: Tensor
    tied_scores: Tensor  # pairs tied in the scores only
    tied_targets: Tensor  # pairs tied in the targets only
    tied_both: Tensor


def ranking_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    kind: Kind = "ranknet",
    groups: Tensor | None = None,
    margin: float = 0.1,
    lower_is_better: bool = False,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> RankingResult:
    """How badly the scores order all pairs of the batch, by the order of the targets.

    With z = s_i - s_j, and h = 1 where target i is above target j, 0 where it is below, a half where they tie:

    - ranknet: log(1 + exp(z)) - h z (Burges et al., Learning to Rank using Gradient Descent, ICML 2005);
    - margin: h max(0, margin - z) + (1 - h) max(0, margin + z), so a tie costs the mean of both directions, at least
      `margin`, and pulls only scores that are further apart than that;
    - fidelity: 1 - sqrt(p h + e) - sqrt((1 - p) (1 - h) + e), where p = Phi(z), the normal distribution's, and
      e = 1e-8 (Tsai et al., FRank, SIGIR 2007; in the form of LIQE, CVPR 2023).

    Memory is O(N), the result is the same from run to run and for any number of threads. Differentiable in `scores`;
    a second derivative is taken through `reference_ranking_loss`, in O(N^2) memory.

    Args:
        scores: `[N]`, floating point; what is trained.
        targets: `[N]`, floating point, higher is better. Only their order counts.
        kind: the loss of a pair.
        groups: `[N]`, integers; only pairs within a group count, such as those of one data set. None: all pairs.
        margin: of kind "margin", at least 0.
        lower_is_better: the scores are distances, so they are negated first.
        reduction: over unordered pairs. Without a pair the loss is 0.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        The loss, float64 where an input is, else float32, and the counts of pairs. A score that is not finite or a NaN
        target makes the loss NaN, and the gradient of all scores of its group. A pair with a NaN is in no count.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, or the backend cannot take them.
    """
    _check(scores, targets, groups)
    _check_options(kind, margin, reduction)
    dtype = torch.promote_types(torch.promote_types(scores.dtype, targets.dtype), torch.float32)
    scores, targets = scores.to(dtype), targets.to(dtype)
    if choose(backend, scores, targets) == "torch":
        return reference_ranking_loss(
            scores,
            targets,
            kind=kind,
            groups=groups,
            margin=margin,
            lower_is_better=lower_is_better,
            reduction=reduction,
        )
    keys = _group_keys(scores, groups)
    loss, counts = _fused(scores, targets, keys, kind, float(margin), lower_is_better, reduction == "mean")
    return RankingResult(loss, *counts.unbind())


def ranking_counts(
    scores: Tensor,
    targets: Tensor,
    *,
    groups: Tensor | None = None,
    lower_is_better: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """The counts of `ranking_loss` by themselves, in O(N log N) on a CPU.

    Args:
        scores: as there.
        targets: as there.
        groups: as there.
        lower_is_better: as there.
        backend: as there.

    Returns:
        `[5]`, int64: concordant, discordant, tied scores, tied targets, tied both.

    Raises:
        InputError: as there.
    """
    _check(scores, targets, groups)
    dtype = torch.promote_types(torch.promote_types(scores.dtype, targets.dtype), torch.float32)
    scores, targets = scores.detach().to(dtype), targets.detach().to(dtype)
    if choose(backend, scores, targets) == "torch":
        return reference_ranking_counts(scores, targets, groups=groups, lower_is_better=lower_is_better)
    return _fused_counts(scores, targets, _group_keys(scores, groups), lower_is_better)


def reference_ranking_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    kind: Kind = "ranknet",
    groups: Tensor | None = None,
    margin: float = 0.1,
    lower_is_better: bool = False,
    reduction: Reduction = "mean",
) -> RankingResult:
    """The specification, in pure torch and O(N^2) memory; every backend is held to it."""
    counts = reference_ranking_counts(scores, targets, groups=groups, lower_is_better=lower_is_better)
    valid = scores.isfinite() & ~targets.isnan()
    quality = (-scores if lower_is_better else scores) * torch.where(valid, 1.0, math.nan).to(scores)  # [N]
    counted = torch.ones(len(scores), len(scores), dtype=torch.bool, device=scores.device).triu(1)  # [N, N]
    if groups is not None:
        counted = counted & (groups[:, None] == groups)
    z = torch.where(counted, quality[:, None] - quality, 0)  # [N, N]
    h = ((targets[:, None] > targets) + 0.5 * (targets[:, None] == targets)).to(z)  # [N, N]
    losses = torch.where(counted, _pair_loss(z, h, kind, margin), 0)
    # What is not a number shows even in a group of one, which has no pair.
    total = losses.sum() + (0 * quality).sum()
    return RankingResult(total / counted.sum().clamp(min=1) if reduction == "mean" else total, *counts.unbind())


def reference_ranking_counts(
    scores: Tensor, targets: Tensor, *, groups: Tensor | None = None, lower_is_better: bool = False
) -> Tensor:
    """The specification of the counts, `[5]`, int64; in O(N) memory, O(N^2) time."""
    scores, targets = scores.detach(), targets.detach()
    size, rows = len(scores), max(1, 2**22 // max(1, len(scores)))
    index = torch.arange(size, device=scores.device)
    total = torch.zeros(5, dtype=torch.int64, device=scores.device)
    for start in range(0, size, rows):
        part = slice(start, start + rows)
        counted = index[part, None] < index  # [rows, N]
        if groups is not None:
            counted = counted & (groups[part, None] == groups)
        s, y = scores[part, None], targets[part, None]
        up, down, tied = s > scores, s < scores, s == scores
        if lower_is_better:
            up, down = down, up
        above, below, equal = y > targets, y < targets, y == targets
        alike, unlike = up & above | down & below, up & below | down & above
        kinds = (alike, unlike, tied & (above | below), (up | down) & equal, tied & equal)
        total = total + torch.stack([(kind & counted).sum() for kind in kinds])
    return total


def _pair_loss(z: Tensor, h: Tensor, kind: str, margin: float) -> Tensor:
    """The loss of each pair, `[N, N]`."""
    if kind == "ranknet":
        return bce_of(z, h)  # torch's own loses what is far below |z|
    if kind == "margin":
        hinges = h * torch.relu(margin - z) + (1 - h) * torch.relu(margin + z)
        return hinges * (1 + 0 * z)  # relu's gradient would be 0 where z is NaN
    p, q = (0.5 * torch.erfc(sign * z / math.sqrt(2)) for sign in (-1, 1))
    return 1 - torch.sqrt(p * h + EPSILON) - torch.sqrt(q * (1 - h) + EPSILON)


def _check(scores: Tensor, targets: Tensor, groups: Tensor | None) -> None:
    if scores.ndim != 1 or scores.shape != targets.shape:
        raise InputError(
            f"scores and targets must be two tensors of equal shape [N], got {list(scores.shape)} and "
            f"{list(targets.shape)}; flatten them"
        )
    if not (scores.is_floating_point() and targets.is_floating_point()):
        raise InputError(
            f"scores and targets must be floating point, got {scores.dtype} and {targets.dtype}; convert with .float()"
        )
    if groups is None:
        return
    if groups.shape != scores.shape:
        raise InputError(f"groups must have the shape of scores, {list(scores.shape)}; got {list(groups.shape)}")
    if groups.device != scores.device:
        raise InputError(f"groups must be on the scores' device, {scores.device}; got {groups.device}")
    if groups.is_floating_point() or groups.is_complex() or groups.dtype == torch.bool:
        raise InputError(f"groups must be integers, got {groups.dtype}; convert with .long()")


def _check_options(kind: str, margin: float, reduction: str) -> None:
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if not 0 <= margin < math.inf:
        raise InputError(f"margin must be finite and at least 0, got {margin}")
    if reduction not in ("mean", "sum"):
        raise InputError(f'reduction must be "mean" or "sum", got {reduction!r}')


def _group_keys(scores: Tensor, groups: Tensor | None) -> Tensor:
    """`[N]`, int64, or `[0]` where all are one group: kernels tell that by the null address."""
    return scores.new_empty(0, dtype=torch.int64) if groups is None else groups.to(torch.int64)


def _forward(
    scores: Tensor, targets: Tensor, groups: Tensor, kind: str, margin: float, lower_is_better: bool, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, the counts `[5]` and the loss's gradient `[N]`, all at once."""
    loss, counts, gradient = _empty_results(scores, targets, groups, kind, margin, lower_is_better, mean)
    backend = scores.device.type
    arguments = [dense(scores), dense(targets), dense(groups), loss, gradient, counts, *_scratch(backend, scores)]
    numbers: list[Any] = [len(scores), KINDS.index(kind), margin, lower_is_better, mean]
    launch(backend, "ranking", *arguments, *numbers)
    return loss, counts, gradient


def _empty_results(
    scores: Tensor, targets: Tensor, groups: Tensor, kind: str, margin: float, lower_is_better: bool, mean: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gradient = torch.empty_like(scores, memory_format=torch.contiguous_format)
    return scores.new_empty(()), scores.new_empty(5, dtype=torch.int64), gradient


def _forward_counts(scores: Tensor, targets: Tensor, groups: Tensor, lower_is_better: bool) -> Tensor:
    backend = scores.device.type
    counts = scores.new_empty(5, dtype=torch.int64)
    arguments = [dense(scores), dense(targets), dense(groups), counts, *_scratch(backend, scores)]
    launch(backend, "ranking_counts", *arguments, len(scores), lower_is_better)
    return counts


def _empty_counts(scores: Tensor, targets: Tensor, groups: Tensor, lower_is_better: bool) -> Tensor:
    return scores.new_empty(5, dtype=torch.int64)


def _scratch(backend: str, scores: Tensor) -> list[Tensor]:
    """On a GPU each block leaves its part of the loss and of the counts."""
    if backend != "cuda":
        return []
    blocks = module(backend).ranking_blocks(len(scores))
    partial_counts = scores.new_empty((blocks, 6), dtype=torch.int64)
    return [scores.new_empty(blocks, dtype=torch.float64), partial_counts]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, counts, gradient = output
    ctx.mark_non_differentiable(counts, gradient)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gradient, *inputs[:3])
    ctx.options = inputs[3:]


def _backward(ctx: Any, grad: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    rest = (None,) * 6
    if grad is None:
        return None, *rest
    gradient, *inputs = ctx.saved_tensors
    if torch.is_grad_enabled():  # with create_graph the gradient is differentiated in turn
        gradient = _differentiable_gradient(*inputs, *ctx.options)
    return grad * gradient, *rest


def _differentiable_gradient(
    scores: Tensor, targets: Tensor, groups: Tensor, kind: Kind, margin: float, lower_is_better: bool, mean: bool
) -> Tensor:
    loss = reference_ranking_loss(
        scores,
        targets,
        kind=kind,
        groups=groups if len(groups) else None,
        margin=margin,
        lower_is_better=lower_is_better,
        reduction="mean" if mean else "sum",
    ).loss
    return torch.autograd.grad(loss, scores, create_graph=True)[0]


_fused = op("ranking_loss", _forward, fake=_empty_results, setup_context=_save, backward=_backward, internal=1)
_fused_counts = op("ranking_counts", _forward_counts, fake=_empty_counts)
