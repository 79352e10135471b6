"""`iqazoo plugins`."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.errors import PluginError
from iqazoo.probe import Report, probe


def run(format: Format = "table", time_limit: float = 60.0) -> int:
    """List the distributions that declare metrics, and whether each metric can be used.

    Each plugin is imported in a process of its own, which also shows what its import changes or prints.

    Args:
        format: how to print.
        time_limit: seconds that importing one may take.
    """
    entries = sorted(registry.declared(), key=lambda e: (e.distribution, e.name))
    groups = [list(group) for _, group in itertools.groupby(entries, key=lambda e: (e.distribution, e.version))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each waits for a child
        show([*pool.map(lambda group: _record(group, time_limit), groups)], format)
    return 0


def _record(entries: Sequence[registry.Entry], limit: float) -> dict[str, Any]:
    first = entries[0]
    facts = {
        "distribution": first.distribution,
        "version": first.version,
        "metrics": " ".join(entry.public_name for entry in entries),
    }
    if first.disabled_by:
        return {**facts, "status": "left out", "cause": f"by {first.disabled_by}", "seconds": None}
    report = _core(entries) if first.is_core else probe(first.distribution, limit)
    status = "broken" if report.broken else "warning" if report.remarks else "ok"
    cause = "; ".join(filter(None, (report.broken, report.remarks)))
    return {**facts, "status": status, "cause": cause, "seconds": report.seconds}


def _core(entries: Sequence[registry.Entry]) -> Report:
    """Without a child: the core's specs are there, or nothing is."""
    started, broken = time.perf_counter(), []
    for entry in entries:
        try:
            entry.spec()
        except PluginError as error:
            broken.append(str(error))
    return Report("; ".join(broken), "", time.perf_counter() - started)
