"""Just noticeable differences: whether a small distance means that people take two images for the same."""

from __future__ import annotations

import torch
from torch import Tensor

from iqazoo.errors import InputError


def average_precision(distance: Tensor, same: Tensor, weights: Tensor | None = None) -> Tensor:
    """Area under the curve of precision over recall when near pairs are called "the same".

    All points count, and precision is made to fall as recall grows, as in PASCAL VOC since 2010 (Everingham et al.,
    The PASCAL Visual Object Classes Challenge: A Retrospective, IJCV 2015). Fractions of people count as fractions
    of a hit. Pairs at one distance are called together, so the order of the data has no part in the result.

    Args:
        distance: `[N]`, smaller is more alike.
        same: `[N]` in [0, 1], the fraction of people who said "the same".
        weights: `[..., N]`, how often each pair counts, 0 or more; once where None.

    Returns:
        `[...]` float64 in [0, 1], a scalar without weights; NaN where nobody said "the same" or a distance is NaN.

    Raises:
        InputError: shapes are not as above, or a fraction is not in [0, 1].
    """
    if distance.ndim != 1 or distance.shape != same.shape or (weights is not None and weights.shape[-1:] != same.shape):
        raise InputError(
            f"distances and answers must have one shape [N], got {list(distance.shape)} and {list(same.shape)}"
        )
    if not ((same >= 0) & (same <= 1)).all():
        raise InputError("answers must be fractions of people, from 0 to 1; divide counts by the number of people")
    counts = torch.ones(len(same), dtype=torch.float64) if weights is None else weights.to(torch.float64)
    if distance.isnan().any() or not len(same):
        return torch.full(counts.shape[:-1], torch.nan, dtype=torch.float64)
    distance, order = distance.sort()
    hits = same.to(torch.float64)[order]  # [N]
    counts = counts[..., order]
    last_of_its_distance = torch.cat([distance[1:] != distance[:-1], torch.tensor([True])])
    true = (counts * hits).cumsum(-1)[..., last_of_its_distance]
    called = counts.cumsum(-1)[..., last_of_its_distance]
    precision = torch.where(called > 0, true / called, 0)
    falling = precision.flip(-1).cummax(-1).values.flip(-1)
    recall = true / true[..., -1:]
    steps = recall.diff(prepend=torch.zeros_like(recall[..., :1]))
    return (steps * falling).sum(-1)
