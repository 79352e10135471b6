"""How well scores agree with people."""

from iqazoo.evaluate.correlation import kendall_tau

__all__ = ["kendall_tau"]
