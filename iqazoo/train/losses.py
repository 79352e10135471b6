"""From the scores of A and B to a loss, through the kernels of `iqazoo.ops`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metric_spec import MetricSpec
from iqazoo.ops import PairwiseResult, calibrated_pairwise_loss, pairwise_loss
from iqazoo.ops.pairwise import Kind
from iqazoo.train.config import Loss


def badness(spec: MetricSpec, score: Tensor) -> Tensor:
    """d, larger for the worse: the distance from the best possible score where that is finite, else +-score, `[B]`."""
    best = spec.score_range[0 if spec.lower_is_better else 1]
    from_best = score - best if math.isfinite(best) and best != 0 else score
    return from_best if spec.lower_is_better else -from_best


def has_best(spec: MetricSpec) -> bool:
    """Whether d is bounded below, so that ratios of it mean something."""
    return math.isfinite(spec.score_range[0 if spec.lower_is_better else 1])


class Scaled(nn.Module):
    """The loss of z = (d_A - d_B) / t: "bce" or "mse" with a learnt positive temperature t, "margin" with t = 1.

    Differences of some metrics are 1e-3, of others 1e4; without t the probability would stay near one half, or
    be certain from the start.
    """

    def __init__(self, kind: Kind, margin: float = 0.1) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.margin = margin
        self.log_scale = None if kind == "margin" else nn.Parameter(torch.zeros(()))

    def forward(self, d_a: Tensor, d_b: Tensor, preference: Tensor) -> PairwiseResult:
        """`[B]` three times -> loss and 2AFC agreement, `[]` each."""
        if self.log_scale is not None:
            scale = self.log_scale.exp().to(d_a.dtype)
            d_a, d_b = d_a * scale, d_b * scale
        return pairwise_loss(d_a, d_b, preference, kind=self.kind, margin=self.margin, lower_is_better=True)

    @torch.no_grad()
    def start_from(self, d_a: Tensor, d_b: Tensor) -> None:
        """Set t to the mean difference of a first batch: no learning rate leads from 1 to 1e4 in good time."""
        spread = (d_a - d_b).abs().mean()
        if self.log_scale is not None and 0 < spread < math.inf:
            self.log_scale.copy_(-spread.log())


class Calibrated(nn.Module):
    """LPIPS's small network from d_A and d_B to the probability of the judgment: `ops.calibrated_pairwise_loss`."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Linear(5, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        weights = [w.detach().flatten() for layer in layers for w in (layer.weight, layer.bias)]
        self.weights = nn.Parameter(torch.cat(weights))  # `[1281]`: the optimizer takes its time by the tensor

    def forward(self, d_a: Tensor, d_b: Tensor, preference: Tensor) -> PairwiseResult:
        """`[B]`, not negative, and `[B]` -> loss and 2AFC agreement, `[]` each."""
        return calibrated_pairwise_loss(d_a, d_b, preference, self.weights, lower_is_better=True)

    def start_from(self, d_a: Tensor, d_b: Tensor) -> None:
        """Nothing to set: it learns any scale."""


PairLoss = Scaled | Calibrated


def make_loss(kind: Loss, spec: MetricSpec, margin: float = 0.1) -> PairLoss:
    """The loss that `kind` names; "auto" is "calibrated" where the score has a best value, else "bce".

    Raises:
        InputError: "calibrated", which divides by d, for a score without a best value.
    """
    if kind == "auto":
        kind = "calibrated" if has_best(spec) else "bce"
    if kind != "calibrated":
        return Scaled(kind, margin)
    if not has_best(spec):
        raise InputError(
            f"the loss 'calibrated' divides by the distance from the best score, and {spec.name} "
            f"(range {spec.score_range}) has none; take 'bce', or declare a finite score_range"
        )
    return Calibrated()
