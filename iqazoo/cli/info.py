"""`iqazoo info NAME`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import tyro

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.metric_spec import MetricSpec
from iqazoo.weights import local_path

AGREEMENT = Path(__file__).parents[1] / "specs" / "agreement.json"
SIZES = ((256, 256), (512, 512), (1080, 1920))
SECONDS = 0.5  # for each size
TOO_LONG = 10.0  # seconds that one call may take


def run(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    format: Format = "table",
    time: bool = False,
) -> int:
    """Show all that a metric says of itself, with its options, where its weights lie, and how other libraries compare.

    Args:
        name: as `iqazoo list` gives it.
        format: how to print.
        time: also measure how long one pair (or image) takes on this machine, by size.
    """
    from iqazoo.factory import network_options

    entry = registry.find(name)
    spec = entry.spec()
    facts = {field.name: _shown(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    facts["options"] = _signature(network_options(spec))
    facts["weights"] = tuple(str(local_path(w)) for w in spec.weights)
    facts["source"] = f"{entry.distribution} {entry.version}"
    facts["agreement"] = _agreement(spec) if entry.is_core else ()
    if time:
        with redirect_stdout(sys.stderr):  # what a network prints is no data
            facts["time"] = tuple(_times(spec))
    show([{"field": key, "value": value} for key, value in facts.items()] if format == "table" else [facts], format)
    return 0


def _signature(options: dict[str, Any]) -> str:
    shown = (n if d is inspect.Parameter.empty else f"{n}={d!r}" for n, d in options.items())
    return ", ".join(shown)


def _shown(value: Any) -> Any:
    """A network that is given as a class is shown by its name."""
    return value.__qualname__ if isinstance(value, type) else value


def _agreement(spec: MetricSpec) -> tuple[str, ...]:
    """Which options reproduce which library, and the largest relative difference; docs/agreement.md says more."""
    lines = json.loads(AGREEMENT.read_text(encoding="utf-8")).get(spec.name, [])
    return tuple(
        f"{line['library']}" + (f", with {line['options']}" if line["options"] else "") + f": {line['difference']}"
        for line in lines
    )


def _times(spec: MetricSpec) -> list[str]:
    """The least time of a call for each size, float32, with random weights: they cost what trained ones cost."""
    import time

    import torch

    from iqazoo.factory import create_from

    metric = create_from(spec, weights=None)
    lines, expected = [], 0.0
    for height, width in SIZES:
        if min(height, width) < getattr(metric.network, "min_size", spec.min_size) or expected > TOO_LONG:
            continue
        count = 2 if spec.takes_reference else 1
        images = torch.rand(count, 1, max(spec.channels), height, width).unbind()
        best, calls, started = float("inf"), 0, time.perf_counter()
        while calls < 2 or time.perf_counter() - started < SECONDS:
            before = time.perf_counter()
            with torch.inference_mode():
                metric(*images).sum().item()
            best, calls = min(best, time.perf_counter() - before), calls + 1
        expected = 6 * best  # of the next size, which has up to eight times as many pixels
        lines.append(f"{height} x {width}: {1e3 * best:.3g} ms")
    device = next(metric.parameters(), torch.empty(0)).device
    return [*lines, f"on {device}, {torch.get_num_threads()} threads"]
