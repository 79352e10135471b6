"""Fused operations, each with a reference in pure torch. Needs only torch and numpy; kernels are optional."""

from iqazoo.ops.backend import Backend, available
from iqazoo.ops.mean_squared_error import mse
from iqazoo.ops.ranking import RankingResult, ranking_counts, ranking_loss

__all__ = ["Backend", "available", "mse", "RankingResult", "ranking_counts", "ranking_loss"]
