"""What importing a plugin does, seen in a process of its own: `python -m iqazoo.probe DISTRIBUTION RESULT`."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from iqazoo import process_state, registry
from iqazoo.errors import PluginError


@dataclass(frozen=True)
class Report:
    """What came of importing the metrics of a distribution.

    Args:
        broken: why a metric cannot be used, all such reasons together, or "".
        remarks: what an import should not do, or "".
        seconds: how long it took, after torch was imported; None if it did not end well.
    """

    broken: str
    remarks: str
    seconds: float | None


def probe(distribution: str, limit: float) -> Report:
    """Import the specs and networks of a distribution in a child process.

    Args:
        distribution: its normalised name.
        limit: after so many seconds the child is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "report.json"
        command = [sys.executable, "-m", "iqazoo.probe", distribution, str(result)]
        null = subprocess.DEVNULL
        try:
            code = subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return Report(f"importing it takes more than {limit:g} s", "", None)
        if not result.exists():
            return Report(f"importing it ends the process, with exit code {code}", "", None)
        return Report(**json.loads(result.read_text()))


def _observe(distribution: str) -> Report:
    import torch  # noqa: F401 - before the clock starts, and so that its own state is known

    from iqazoo.factory import network_class

    registry.SLOW = math.inf  # what it says would pass for a print of the plugin
    entries = [entry for entry in registry.entries() if entry.distribution == distribution]
    before, started, broken = process_state.snapshot(), time.perf_counter(), []
    with tempfile.TemporaryFile() as printed, _redirected(printed.fileno()):
        for entry in entries:
            try:
                network_class(entry.spec())
            except PluginError as error:
                broken.append(str(error))
        seconds = time.perf_counter() - started
        sys.stdout.flush()
        sys.stderr.flush()
        printed.seek(0)
        words = printed.read().decode(errors="replace").strip()
    remarks = [f"its import changes {what}" for what in process_state.changes(before, process_state.snapshot())]
    if words:
        remarks.insert(0, f"its import prints {words.splitlines()[0][:60]!r}")
    return Report("; ".join(broken), "; ".join(remarks), seconds)


@contextlib.contextmanager
def _redirected(file: int) -> Iterator[None]:
    """Send what is printed, by C code too, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


if __name__ == "__main__":
    name, path = sys.argv[1:]
    report = json.dumps(asdict(_observe(name)))
    unfinished = Path(path).with_suffix(".part")
    unfinished.write_text(report)
    unfinished.replace(path)
