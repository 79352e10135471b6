"""What an author needs to prove a metric: one named check for each promise that a metric makes.

from iqazoo.testing import parametrize_with_checks

@parametrize_with_checks([SPEC])
def test_the_metric_keeps_its_promises(spec, check):
    check(spec)
"""

from iqazoo.testing.kit import CHECKS, Outcome, parametrize_with_checks, run_all
from iqazoo.testing.subject import CheckFailed, NotApplicable, Subject

__all__ = ["CHECKS", "CheckFailed", "NotApplicable", "Outcome", "Subject", "parametrize_with_checks", "run_all"]
