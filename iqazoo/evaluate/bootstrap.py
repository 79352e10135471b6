"""How far a figure would move if other judgments of the same kind had been collected."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iqazoo.errors import InputError

RESAMPLES = 1000
LEVEL = 0.95
AT_ONCE = 2**22
"""So many numbers of a resample are in memory together."""


def resample(statistic: Callable[[Tensor], Tensor], count: int, resamples: int = RESAMPLES, seed: int = 0) -> Tensor:
    """The statistic of data sets drawn from this one with replacement; Efron, Annals of Statistics 7, 1979.

    Args:
        statistic: takes `[R, N]` float64, how often each row was drawn, and gives `[..., R]`.
        count: N, the number of rows.
        resamples: how many sets to draw.
        seed: the same seed and N draw the same rows, so figures of several metrics can be compared draw by draw.

    Returns:
        `[..., resamples]`.

    Raises:
        InputError: there is no row, or nothing to draw.
    """
    if count < 1 or resamples < 1:
        raise InputError(f"expected a row or more and a resample or more, got {count} and {resamples}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    per_turn = max(1, AT_ONCE // count)
    for start in range(0, resamples, per_turn):
        drawn = torch.randint(count, (min(per_turn, resamples - start), count), generator=generator)  # [R, N]
        times = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, _ones_like(drawn))
        found.append(statistic(times))
    return torch.cat(found, dim=-1)


def mean_of(values: Tensor) -> Callable[[Tensor], Tensor]:
    """The statistic of `resample` that is the mean of `[..., N]` values: `[R, N]` -> `[..., R]`."""
    return lambda times: values.to(torch.float64) @ times.T / values.shape[-1]


def interval(replicates: Tensor, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of `[R]` replicates: a part of (1 - level) / 2 lies below it, and as much above.

    Replicates that are NaN are left out: a draw may lack what the figure needs, as average precision needs an answer
    "the same". Both ends are NaN where all replicates are, as those of a figure that is NaN itself.
    """
    tail = (1 - level) / 2
    low, high = torch.nanquantile(replicates, torch.tensor([tail, 1 - tail], dtype=replicates.dtype)).tolist()
    return low, high


def _ones_like(drawn: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.float64).expand(drawn.shape)
