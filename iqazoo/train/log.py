"""What people watch: progress in the terminal, one JSON line per record always, TensorBoard where it is installed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from iqazoo.errors import InputError

REFRESH = 0.1  # seconds


class Log:
    """The records of a run in `FOLDER/log.jsonl`, and the terminal. One process of a run has an active one.

    Args:
        folder: of the run.
        total: steps of the whole run.
        active: False makes every call do nothing.
    """

    def __init__(self, folder: Path, total: int, active: bool = True) -> None:
        self.board: Any = None
        self._active = active
        self._path = folder / "log.jsonl"
        self._file: TextIO | None = None
        self._told = -1.0
        self._progress = _bar(disable=not active or not sys.stderr.isatty())
        self._task = self._progress.add_task("", total=total, loss="", agreement="", speed="")

    def open(self, step: int, size: int) -> None:
        """Begin, or go on: what was recorded after the first `size` bytes is forgotten, to be recorded again.

        Raises:
            InputError: there can be no file.
        """
        if not self._active:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self._path} cannot be written: {error}; choose another folder for the run") from error
        if self.size > size:
            self._file.truncate(size)
        self.board = _tensorboard(self._path.parent / "tensorboard", step)
        self._progress.start()
        self._progress.update(self._task, completed=step)

    def close(self) -> None:
        """End all output."""
        if self._file is not None:
            self._progress.stop()
            self._file.close()
            self._file = None
        if self.board is not None:
            self.board.close()

    @property
    def size(self) -> int:
        """Bytes of the log, all of which are with the system."""
        return self._path.stat().st_size if self._path.exists() else 0

    def record(self, kind: str, step: int, values: Mapping[str, float], board: Any = None) -> None:
        """Write a line, and the numbers in it as KIND/NAME to a TensorBoard writer, if one is given."""
        if not self._active:
            return
        if self._file is not None:
            self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
            self._file.flush()
        if board is not None:
            for name, value in values.items():
                board.add_scalar(f"{kind}/{name}", value, step)

    def say(self, message: str) -> None:
        """Print a line on stderr, above the progress bar if there is one."""
        if self._active:
            self._progress.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def step(self, step: int, loss: float, agreement: float, speed: float, title: str) -> None:
        """Redraw the bar, unless it was just now."""
        now = time.monotonic()
        if self._progress.disable or now - self._told < REFRESH:
            return
        self._told = now
        self._progress.update(
            self._task,
            completed=step,
            description=title,
            loss=f"{loss:.4f}",
            agreement=f"{agreement:.1%}",
            speed=f"{speed:.0f}",
        )


def _bar(disable: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  2AFC {task.fields[agreement]}  {task.fields[speed]} samples/s"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=disable)


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer that takes back what came after the step, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
