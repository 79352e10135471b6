"""All checks, run from pytest or one after the other."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from iqazoo.errors import InputError
from iqazoo.metric_spec import MetricSpec
from iqazoo.testing import behaviour, gradients, quality, scores, tracing, training
from iqazoo.testing.subject import CheckFailed, NotApplicable, Subject

CHECKS: dict[str, Callable[[Subject], None]] = {
    check.__name__: check
    for check in (
        scores.check_output,
        scores.check_batch,
        scores.check_order,
        scores.check_determinism,
        scores.check_range,
        scores.check_channels,
        scores.check_sizes,
        scores.check_memory_format,
        scores.check_nan,
        scores.check_autocast,
        scores.check_map,
        scores.check_features,
        quality.check_identity,
        quality.check_direction,
        quality.check_monotone_noise,
        quality.check_monotone_blur,
        quality.check_monotone_jpeg,
        gradients.check_gradient,
        gradients.check_gradient_at_identity,
        behaviour.check_side_effects,
        behaviour.check_safetensors,
        behaviour.check_copies,
        behaviour.check_devices,
        behaviour.check_threads,
        behaviour.check_memory,
        training.check_training,
        scores.check_large_image,
        tracing.check_export,
        tracing.check_compile,
    )
}
SLOW = frozenset({"check_memory", "check_training", "check_large_image", "check_export", "check_compile"})
ExpectedFailures = Mapping[str, Mapping[str, str]]
"""From the name of a metric to the names of checks that it does not pass, each with the reason."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Args:
        check: its name.
        result: "skipped" where the spec does not promise what it asks for, "expected" where it failed as declared.
        seconds: how long it took.
        cause: why it failed, or was skipped.
    """

    check: str
    result: Literal["passed", "failed", "skipped", "expected"]
    seconds: float
    cause: str = ""


def run(name: str, subject: Subject) -> None:
    """Run one check.

    Raises:
        CheckFailed: it does not hold; whatever the metric raised is its cause.
        NotApplicable: the spec does not promise what it asks for.
    """
    try:
        CHECKS[name](subject)
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # a metric may raise anything, and all of it is a failure
        raise CheckFailed(f"the metric raises {type(error).__name__}: {_first_line(error)}") from error


def run_all(
    spec: MetricSpec,
    *,
    weights: str | Path | None = "auto",
    expected_failures: Mapping[str, str] | None = None,
    only: Collection[str] = (),
) -> Iterator[Outcome]:
    """Run the checks one after the other.

    Args:
        spec: of the metric.
        weights: see `Subject`.
        expected_failures: checks that the metric does not pass, with the reason. One that passes all the same fails.
        only: names of checks; all where it is empty.

    Raises:
        InputError: there is no such check.
        WeightsError, PluginError: the metric cannot be had.
    """
    expected = dict(expected_failures or {})
    _require_known([*expected, *only])
    subject = Subject(spec, weights)
    for name in CHECKS:
        if only and name not in only:
            continue
        started, result, cause = time.perf_counter(), "passed", ""
        try:
            run(name, subject)
            if name in expected:
                result, cause = "failed", f"it passes, though declared to fail: {expected[name]}"
        except NotApplicable as reason:
            result, cause = "skipped", str(reason)
        except CheckFailed as failure:
            result, cause = ("expected", expected[name]) if name in expected else ("failed", str(failure))
        yield Outcome(name, result, time.perf_counter() - started, cause)


@dataclass(frozen=True)
class Check:
    """One check of one metric, as a test gets it: `check(spec)`."""

    name: str
    weights: str | Path | None

    def __call__(self, spec: MetricSpec) -> None:
        """Run it; pytest shows a failure's message, and a check that does not apply as skipped."""
        import pytest

        try:
            run(self.name, _subject(spec, self.weights))
        except NotApplicable as reason:
            pytest.skip(str(reason))


def parametrize_with_checks(
    specs: Sequence[MetricSpec],
    *,
    weights: str | Path | None = "auto",
    expected_failed_checks: ExpectedFailures | None = None,
    leave_out: Collection[str] = (),
) -> Any:
    """Decorates a test of `spec` and `check`, so that it runs once for each metric and check.

        @parametrize_with_checks([SPEC])
        def test_the_metric_keeps_its_promises(spec, check):
            check(spec)

    Checks that take long bear the mark `slow`.

    Args:
        specs: of the metrics, registered or not.
        weights: "auto" for the published weights where they are on this machine, else random ones from a fixed seed;
            or as `create` takes them.
        expected_failed_checks: `{metric: {check: reason}}`; such a check must fail, or the declaration is out of date.
        leave_out: checks that are not run, such as those that another metric of the same network runs.

    Raises:
        InputError: there is no such check or metric.
    """
    import pytest

    expected = expected_failed_checks or {}
    _require_known([*leave_out, *(check for checks in expected.values() for check in checks)])
    if strangers := sorted(set(expected) - {spec.name for spec in specs}):
        raise InputError(f"expected_failed_checks names {', '.join(strangers)}, which is none of the given metrics")
    cases = []
    for spec in specs:
        for name in CHECKS:
            if name in leave_out:
                continue
            marks = [pytest.mark.slow] if name in SLOW else []
            if reason := expected.get(spec.name, {}).get(name):
                marks.append(pytest.mark.xfail(reason=reason, raises=CheckFailed, strict=True))
            cases.append(pytest.param(spec, Check(name, weights), marks=marks, id=f"{spec.name}-{name}"))
    return pytest.mark.parametrize(("spec", "check"), cases)


@functools.lru_cache(maxsize=1)
def _subject(spec: MetricSpec, weights: str | Path | None) -> Subject:
    return Subject(spec, weights)


def _require_known(names: Collection[str]) -> None:
    for name in names:
        if name not in CHECKS:
            raise InputError(f"there is no check {name!r}; the checks are {', '.join(CHECKS)}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no message)"
