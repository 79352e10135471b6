"""Whether two metrics that were judged on the same data differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RESAMPLES = 9999
AT_ONCE = 2**24
ROUNDING = 1e-7


def sign_flip_test(differences: Tensor, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """The paired permutation test: how often a sum at least as far from 0 comes about when every sign is a coin toss.

    If two metrics were equally good, each difference could as well have come the other way round. Fisher, The Design
    of Experiments, 1935; with random signs, the sum that was observed counts as one more toss, so p is never 0.

    Args:
        differences: `[N]`, one metric's agreement minus the other's on the same rows, weighted if rows count unequally.
        resamples: how many tosses; all 2^n are looked at instead where n differences are not 0 and there are no more.
        seed: of the tosses.

    Returns:
        The two-sided p, in (0, 1]; 1 where all differences are 0, NaN where one is NaN.
    """
    if differences.isnan().any():
        return math.nan
    values = differences[differences != 0].to(torch.float64)
    if not len(values):
        return 1.0
    # Fractions of people are often held as float32, so that sums which should tie differ a little.
    far = values.sum().abs() - ROUNDING * values.abs().sum()
    if 2 ** min(len(values), 63) <= resamples + 1:
        return (_all_sums(values).abs() >= far).to(torch.float64).mean().item()
    generator = torch.Generator().manual_seed(seed)
    beyond = 0
    per_turn = max(1, AT_ONCE // len(values))
    for start in range(0, resamples, per_turn):
        shape = (min(per_turn, resamples - start), len(values))
        kept = torch.randint(2, shape, generator=generator, dtype=torch.int8).to(torch.float64)
        beyond += int(((2 * (kept @ values) - values.sum()).abs() >= far).sum())
    return (beyond + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, so that all of them together err with the chance that one would.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979. NaN stays
    NaN and does not count.
    """
    ordered = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(ordered):
        least = max(least, min(1.0, p * (len(ordered) - rank)))
        adjusted[i] = least
    return adjusted


def _all_sums(values: Tensor) -> Tensor:
    """`[2^n]` sums, one for each choice of signs."""
    sums = torch.zeros(1, dtype=torch.float64)
    for value in values:
        sums = torch.cat([sums + value, sums - value])
    return sums
