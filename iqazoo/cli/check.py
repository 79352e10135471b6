"""`iqazoo check`."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import Annotated

import tyro

from iqazoo import registry
from iqazoo.cli.output import Format, say, show


def run(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    weights: Annotated[str, tyro.conf.arg(metavar="auto|default|none|FILE")] = "auto",
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CHECK ...]")] = (),
    format: Format = "table",
) -> int:
    """Check that a metric keeps the promises that it makes, one named check each.

    Exit code 1 says that a check failed. One that the metric cannot pass is declared in its tests: see
    `iqazoo.testing.parametrize_with_checks`.

    Args:
        name: of the metric.
        weights: auto takes the published ones where they are on this machine, else random ones; default fetches them;
            none takes random ones.
        only: names of checks; all of them if not given.
        format: how to print; a table is printed line by line.
    """
    from iqazoo import testing

    spec, stdout, outcomes = registry.spec(name), sys.stdout, []
    with redirect_stdout(sys.stderr):  # what a network prints is no data
        for outcome in testing.run_all(spec, weights=None if weights == "none" else weights, only=only):
            outcomes.append(outcome)
            if format == "table":  # as they come: all of them take a minute
                line = f"{outcome.result:7} {outcome.check:26} {outcome.seconds:6.2f} s  {outcome.cause}"
                print(line.rstrip(), flush=True, file=stdout)
    if format != "table":
        show([dataclasses.asdict(outcome) for outcome in outcomes], format)
    counts = Counter(outcome.result for outcome in outcomes)
    say(f"{name}: " + ", ".join(f"{count} {result}" for result, count in counts.items()))
    return 1 if counts["failed"] else 0
