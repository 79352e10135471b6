"""The one module that a training step calls, and that DistributedDataParallel wraps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from iqazoo.metric_spec import MetricSpec
from iqazoo.train.losses import PairLoss, badness

Scores = Callable[[Any, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Verdict(NamedTuple):
    """What a batch of judgments gives: two `[]`, and d (larger for the worse) of A and B, `[B]` each."""

    loss: Tensor
    agreement: Tensor
    d_a: Tensor
    d_b: Tensor


class Judgment(nn.Module):
    """A metric's network and the loss that it learns by.

    Args:
        spec: of the metric, for its direction.
        network: with parameters to train.
        loss: from `losses.make_loss`.
        scores: from (network, reference, a, b) to the scores of A and B.
    """

    def __init__(self, spec: MetricSpec, network: nn.Module, loss: PairLoss, scores: Scores | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.network: Any = network
        self.loss = loss
        self._scores = scores or (triplet_scores if spec.takes_reference else image_scores)

    def forward(self, reference: Tensor, a: Tensor, b: Tensor, preference: Tensor) -> Verdict:
        """`[B, C, H, W]` three times and `[B]`, the fraction that preferred B -> loss, agreement and d."""
        scores = self._scores(self.network, reference, a, b)
        d_a, d_b = (badness(self.spec, s.to(torch.promote_types(s.dtype, torch.float32))) for s in scores)
        loss, agreement = self.loss(d_a, d_b, preference)
        return Verdict(loss, agreement, d_a.detach(), d_b.detach())


def triplet_scores(network: Any, reference: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of A and B, `[B]` each; where the network has `features`, in one pass over [reference; A; B]."""
    if hasattr(network, "features") and hasattr(network, "distance"):
        features = network.features(torch.cat([reference, a, b]))
        f_reference, f_a, f_b = _parts(features, 3)
        return network.distance(f_a, f_reference), network.distance(f_b, f_reference)
    score_a, score_b = network(torch.cat([a, b]), torch.cat([reference, reference])).chunk(2)
    return score_a, score_b


def image_scores(network: Any, _: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of a metric without reference, `[B]` each."""
    score_a, score_b = network(torch.cat([a, b])).chunk(2)
    return score_a, score_b


def _parts(features: Any, count: int) -> list[Any]:
    """Equal parts, along the batch, of every tensor of a nested tuple, list or dict; no copies.

    A tensor is divided once for all parts: their gradients are then put together in one go, and not each filled up
    with zeros and added.
    """
    if isinstance(features, Tensor):
        return [*features.chunk(count)]
    if isinstance(features, Mapping):
        keys, values = features.keys(), features.values()
        return [dict(zip(keys, row, strict=True)) for row in _transposed(values, count)]
    rows = _transposed(features, count)
    if isinstance(features, list):
        return [*map(list, rows)]
    return [type(features)(*row) for row in rows] if hasattr(features, "_fields") else rows  # a namedtuple, a tuple


def _transposed(several: Iterable[Any], count: int) -> list[tuple[Any, ...]]:
    return [*zip(*(_parts(features, count) for features in several), strict=True)] or [()] * count
