"""How the checks are run: from Python, from pytest, and what is declared to fail."""

import os
import sys

import pytest
from wrong_metrics import Branching, Right, Root, Saturating, spec_of

from iqazoo import InputError, registry
from iqazoo.testing import CHECKS, Subject, parametrize_with_checks, run_all

pytest_plugins = "pytester"
BLIND = {"check_monotone_noise": "it saturates"}

MODULE = """
from wrong_metrics import Saturating, spec_of
from iqazoo.testing import CHECKS, parametrize_with_checks

few = ["check_output", "check_batch", "check_monotone_noise", "check_monotone_blur", "check_training"]
declared = {"check_monotone_noise": "it saturates", "check_output": "not true"}

@parametrize_with_checks(
    [spec_of(Saturating, trainable=False)],
    expected_failed_checks={"saturating": declared},
    leave_out=set(CHECKS) - set(few),
)
def test_it(spec, check):
    check(spec)
"""


def test_run_all_tells_what_came_of_each_check():
    only = ["check_monotone_noise", "check_output", "check_training"]
    spec = spec_of(Saturating, trainable=False)
    passed, failed, skipped = run_all(spec, only=only)
    assert [passed.check, failed.check, skipped.check] == ["check_output", "check_monotone_noise", "check_training"]
    assert [passed.result, failed.result, skipped.result] == ["passed", "failed", "skipped"]
    assert failed.cause.startswith("scores must get worse as gaussian_noise grows, got 0.1:")
    assert skipped.cause == "trainable=False"
    assert passed.seconds > 0


def test_a_declared_failure_is_expected_and_must_happen():
    only = ["check_monotone_noise"]
    (outcome,) = run_all(spec_of(Saturating), only=only, expected_failures=BLIND)
    assert (outcome.result, outcome.cause) == ("expected", "it saturates")
    (outcome,) = run_all(spec_of(Right), only=only, expected_failures=BLIND)
    assert outcome.result == "failed"
    assert "declared to fail: it saturates" in outcome.cause


def test_whatever_a_metric_raises_is_a_failure_and_stops_no_other_check():
    class Raising(Right):
        def forward(self, image, reference):
            raise ZeroDivisionError("one line\nanother")

    first, second = run_all(spec_of(Raising), only=["check_output", "check_batch"])
    assert first.cause == second.cause == "the metric raises ZeroDivisionError: one line"


def test_names_that_are_none_are_refused():
    with pytest.raises(InputError, match="no check 'check_x'; the checks are check_output, "):
        next(run_all(spec_of(Right), only=["check_x"]))
    with pytest.raises(InputError, match="no check 'check_x'"):
        parametrize_with_checks([spec_of(Right)], leave_out=["check_x"])
    with pytest.raises(InputError, match="names ssim, which is none of the given"):
        parametrize_with_checks([spec_of(Right)], expected_failed_checks={"ssim": {"check_map": "why"}})


@pytest.mark.slow
def test_pytest_runs_one_test_for_each_check(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    pytester.makepyfile(MODULE)
    pytester.makeini("[pytest]\nmarkers = slow")
    run = pytester.runpytest_subprocess("-rA", f"--rootdir={pytester.path}")
    run.assert_outcomes(passed=1, failed=2, skipped=1, xfailed=1)
    shown = run.stdout.str()
    assert "[XPASS(strict)] not true" in shown
    assert "scores must get worse as gaussian_blur grows" in shown
    for line in (
        "PASSED *[[]saturating-check_batch]",
        "SKIPPED *trainable=False",
        "XFAIL *[[]saturating-check_monotone_noise] - it saturates",
        "FAILED *[[]saturating-check_output]*",
        "FAILED *[[]saturating-check_monotone_blur]*",
    ):
        run.stdout.fnmatch_lines([line])


def test_slow_checks_bear_the_mark():
    cases = parametrize_with_checks([spec_of(Branching), spec_of(Root)]).args[1]
    slow = {case.id for case in cases if case.marks}
    assert len(cases) == 2 * len(CHECKS)
    names = ("check_memory", "check_training", "check_large_image", "check_export", "check_compile")
    assert slow == {f"{metric}-{name}" for metric in ("branching", "root") for name in names}


def test_random_weights_are_the_same_each_time_and_bring_no_download():
    subject = Subject(registry.spec("lpips"))
    assert subject.has_random_weights
    again = Subject(registry.spec("lpips"), None)
    assert subject.score(*subject.inputs()).equal(again.score(*again.inputs()))
    assert not Subject(registry.spec("ssim")).has_random_weights
