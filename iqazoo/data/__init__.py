"""Human judgments as datasets: which image is closer to a reference, which pairs look the same, how good one looks."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from iqazoo.data.listing import is_table

if TYPE_CHECKING:  # what `__getattr__` finds, for editors and type checkers
    from iqazoo.data.judgments import JND as JND
    from iqazoo.data.judgments import RatingTable as RatingTable
    from iqazoo.data.judgments import Triplets as Triplets
    from iqazoo.data.judgments import TripletTable as TripletTable
    from iqazoo.data.judgments import TwoAFC as TwoAFC

__all__ = ["JND", "RatingTable", "TripletTable", "Triplets", "TwoAFC", "is_table"]


def __getattr__(name: str) -> Any:
    """Import on first use: making a synthetic set needs no torch, and starts processes that need none."""
    if name not in __all__:
        raise AttributeError(f"module 'iqazoo.data' has no attribute {name!r}")
    return getattr(import_module("iqazoo.data.judgments"), name)
