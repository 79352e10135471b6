"""How well scores agree with people."""

from iqazoo.evaluate.bootstrap import interval, mean_of, resample
from iqazoo.evaluate.correlation import kendall_tau
from iqazoo.evaluate.jnd import average_precision
from iqazoo.evaluate.significance import holm, sign_flip_test
from iqazoo.evaluate.two_afc import agreement, best_agreement, by_subset, human_agreement

__all__ = [
    "agreement",
    "average_precision",
    "best_agreement",
    "by_subset",
    "holm",
    "human_agreement",
    "interval",
    "kendall_tau",
    "mean_of",
    "resample",
    "sign_flip_test",
]
