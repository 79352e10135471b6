"""Correlations between a metric's scores and ratings."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.ranking import ranking_counts

EXACT_INTEGERS = 2**53  # float64 holds all integers up to this


def kendall_tau(scores: Tensor, targets: Tensor) -> float:
    """Kendall's rank correlation tau-b, from exact counts of all pairs, in O(N log N) on a CPU.

    (concordant - discordant) / sqrt((pairs - tied in scores) (pairs - tied in targets)); Kendall, The treatment of
    ties in ranking problems, Biometrika 33, 1945.

    Args:
        scores: `[N]`, floating point or integers.
        targets: `[N]`, likewise.

    Returns:
        In [-1, 1]; NaN where all scores or all targets tie, where there is no pair, and where anything is NaN.

    Raises:
        InputError: shapes, dtypes or devices are not as above, or integers beyond +-2^53.
    """
    scores, targets = _real(scores), _real(targets)
    counts = ranking_counts(scores, targets)
    if scores.isnan().any() or targets.isnan().any():
        return math.nan
    concordant, discordant, tied_scores, tied_targets, _ = counts.tolist()
    ordered = concordant + discordant
    # Two roots, for the product of two counts of pairs is beyond what float64 holds exactly.
    scale = math.sqrt(ordered + tied_targets) * math.sqrt(ordered + tied_scores)
    return max(-1.0, min(1.0, (concordant - discordant) / scale)) if scale else math.nan


def _real(values: Tensor) -> Tensor:
    if values.is_floating_point():
        return values
    if values.is_complex():
        raise InputError(f"kendall_tau takes real numbers, got {values.dtype}; give what they are to be ranked by")
    if values.numel() and max(abs(values.min().item()), abs(values.max().item())) > EXACT_INTEGERS:
        raise InputError("kendall_tau takes integers up to 2^53, which float64 tells apart; subtract a constant")
    return values.to(torch.float64)
