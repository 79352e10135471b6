"""Fused operations, each with a reference in pure torch. Needs only torch and numpy; kernels are optional."""

from iqazoo.ops.backend import Backend, available
from iqazoo.ops.calibrated import calibrated_pairwise_loss
from iqazoo.ops.feature_distance import feature_distance
from iqazoo.ops.mean_squared_error import mse
from iqazoo.ops.pairwise import PairwiseResult, pairwise_loss
from iqazoo.ops.ranking import RankingResult, ranking_counts, ranking_loss

__all__ = [
    "Backend",
    "PairwiseResult",
    "RankingResult",
    "available",
    "calibrated_pairwise_loss",
    "feature_distance",
    "mse",
    "pairwise_loss",
    "ranking_counts",
    "ranking_loss",
]
