"""`iqazoo info NAME`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any

import tyro

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.weights import local_path


def run(name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")], format: Format = "table") -> int:
    """Show all that a metric says of itself, with its options and where its weights lie.

    Args:
        name: as `iqazoo list` gives it.
        format: how to print.
    """
    from iqazoo.factory import network_options

    entry = registry.find(name)
    spec = entry.spec()
    facts = {field.name: _shown(getattr(spec, field.name)) for field in dataclasses.fields(spec)}
    facts["options"] = _signature(network_options(spec))
    facts["weights"] = tuple(str(local_path(w)) for w in spec.weights)
    facts["source"] = f"{entry.distribution} {entry.version}"
    show([{"field": key, "value": value} for key, value in facts.items()] if format == "table" else [facts], format)
    return 0


def _signature(options: dict[str, Any]) -> str:
    shown = (n if d is inspect.Parameter.empty else f"{n}={d!r}" for n, d in options.items())
    return ", ".join(shown)


def _shown(value: Any) -> Any:
    """A network that is given as a class is shown by its name."""
    return value.__qualname__ if isinstance(value, type) else value
