"""Fused operations, each with a reference in pure torch. Needs only torch and numpy; kernels are optional."""

from iqazoo.ops.backend import Backend, available
from iqazoo.ops.calibrated import calibrated_pairwise_loss
from iqazoo.ops.feature_distance import feature_distance
from iqazoo.ops.linear_attention import linear_attention, linear_attention_packed
from iqazoo.ops.mean_squared_error import mse
from iqazoo.ops.moments import Moments, windowed_moments
from iqazoo.ops.pairwise import PairwiseResult, pairwise_loss
from iqazoo.ops.pyramid import ssim_pyramid
from iqazoo.ops.ranking import RankingResult, ranking_counts, ranking_loss
from iqazoo.ops.structural_similarity import SSIMParts, ssim

__all__ = [
    "Backend",
    "Moments",
    "PairwiseResult",
    "RankingResult",
    "SSIMParts",
    "available",
    "calibrated_pairwise_loss",
    "feature_distance",
    "linear_attention",
    "linear_attention_packed",
    "mse",
    "pairwise_loss",
    "ranking_counts",
    "ranking_loss",
    "ssim",
    "ssim_pyramid",
    "windowed_moments",
]
