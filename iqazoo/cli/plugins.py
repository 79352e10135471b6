"""`iqazoo plugins`."""

from __future__ import annotations

import itertools

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.errors import PluginError


def run(format: Format = "table") -> int:
    """List the distributions that declare metrics, and whether each metric can be used.

    Args:
        format: how to print.
    """
    entries = sorted(registry.declared(), key=lambda e: (e.distribution, e.name))
    records = []
    for (distribution, version), group in itertools.groupby(entries, key=lambda e: (e.distribution, e.version)):
        members = list(group)
        records.append(
            {
                "distribution": distribution,
                "version": version,
                "metrics": " ".join(e.public_name for e in members),
                "status": "; ".join(filter(None, map(_fault, members))) or "ok",
            }
        )
    show(records, format)
    return 0


def _fault(entry: registry.Entry) -> str:
    if entry.disabled_by:
        return f"left out by {entry.disabled_by}"
    try:
        entry.spec()
    except PluginError as error:
        return str(error)
    return ""
