"""`iqazoo list`."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Any, Literal

import tyro

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.errors import PluginError
from iqazoo.metric_spec import MetricSpec


def run(
    pattern: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATTERN")] = "*",
    kind: Annotated[Literal["FR", "NR"] | None, tyro.conf.arg(metavar="FR|NR")] = None,
    format: Format = "table",
) -> int:
    """List the metrics that are installed.

    Args:
        pattern: a shell pattern such as "lpips*".
        kind: full-reference (FR) or no-reference (NR) metrics only.
        format: how to print.
    """
    records = [_record(e, kind) for e in registry.entries() if fnmatch.fnmatchcase(e.public_name, pattern)]
    show([r for r in records if r], format, titles={"better": ""})
    return 0


def _record(entry: registry.Entry, kind: str | None) -> dict[str, Any]:
    source = f"{entry.distribution} {entry.version}"
    try:
        spec = entry.spec()
    except PluginError as error:
        spec, status = None, str(error)
    else:
        status = "ok"
    if spec and kind not in (None, spec.kind):
        return {}
    return {"name": entry.public_name, **_facts(spec), "source": source, "status": status}


def _facts(spec: MetricSpec | None) -> dict[str, Any]:
    if spec is None:
        return dict.fromkeys(("better", "kind", "range", "map", "trainable", "summary"))
    low, high = spec.score_range
    return {
        "better": spec.arrow,
        "kind": spec.kind,
        "range": f"{low:g} .. {high:g}",
        "map": "yes" if spec.spatial else "no",
        "trainable": "yes" if spec.trainable else "no",
        "summary": spec.summary,
    }
