"""`iqazoo weights`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import tyro

from iqazoo import registry
from iqazoo.cli.output import Format, show
from iqazoo.errors import WeightsError
from iqazoo.metric_spec import Weights
from iqazoo.weights import fetch, is_present, local_path, verify


def run(
    action: tyro.conf.Positional[Literal["list", "fetch", "verify", "path"]],
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME...")] = (),
    format: Format = "table",
) -> int:
    """Look after the weight files: list them, fetch them, verify their hashes, or print where they lie.

    Args:
        action: what to do.
        names: the metrics; all of them if none is given.
        format: how to print the list.
    """
    files = _files(names or registry.list_metrics())
    if action == "list":
        show([_record(users, weights) for weights, users in files.items()], format)
        return 0
    failed = False
    for weights in files:
        try:
            print({"fetch": _fetch, "verify": verify, "path": local_path}[action](weights))
        except WeightsError as error:
            print(f"iqazoo: {error}", file=sys.stderr)
            failed = True
    return int(failed)


def _files(names: Sequence[str]) -> dict[Weights, list[str]]:
    """Every file once, with the metrics that use it."""
    files: dict[Weights, list[str]] = {}
    for name in names:
        for weights in registry.spec(name).weights:
            files.setdefault(weights, []).append(name)
    return files


def _fetch(weights: Weights) -> Any:
    return fetch(weights, progress=True)


def _record(users: Sequence[str], weights: Weights) -> dict[str, Any]:
    return {
        "metrics": " ".join(users),
        "file": weights.file_name,
        "present": "yes" if is_present(weights) else "no",
        "license": weights.license,
        "sha256": weights.sha256,
        "url": weights.url,
    }
