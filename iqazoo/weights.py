"""Where a published weight file lies, how it is fetched, and how it is verified. No torch here.

A file is used only if its sha256 is the one that the spec promises; where it came from does not matter.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from iqazoo import environment
from iqazoo.atomic import replacing
from iqazoo.errors import WeightsError
from iqazoo.metric_spec import FULL_SHA256, Weights

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TIMEOUT = 30
"""Seconds without an answer, or without a further byte, after which a server is given up."""

CHUNK = 1 << 20
"""Bytes per write. pooch's own 1 KiB makes a large file ten times slower."""

_log = logging.getLogger(__name__)


def local_path(weights: Weights) -> Path:
    """Where the file lies, or where it is to be put by hand.

    That is iqazoo's cache, or torch.hub's checkpoint folder if the right file is there already (which takes
    hashing it).
    """
    *others, own = _places(weights)
    return next((path for path in others if not _fault(path, weights)), own)


def is_present(weights: Weights) -> bool:
    """Whether a file of the right name (and size, where known) is there. Quick: `verify` alone reads it."""
    return any(os.path.isfile(path) and weights.size in (None, os.path.getsize(path)) for path in _places(weights))


def verify(weights: Weights) -> Path:
    """Hash the local file and return its path. Never touches the network.

    Raises:
        WeightsError: it is absent or has another sha256.
    """
    path, faults = _look(weights)
    if path is None:
        raise _error(weights, faults)
    return path


def fetch(weights: Weights, progress: bool = False) -> Path:
    """Return the path of the file, downloaded if no right one is there yet.

    Asked in turn: the local places, the mirror (`IQAZOO_WEIGHTS_MIRROR`), the URL of publication. A cached
    copy with a wrong hash is downloaded anew. Processes may fetch the same file at once.

    Args:
        weights: the file.
        progress: draw a progress bar on standard error.

    Raises:
        WeightsError: none of them has the file with the right sha256, it cannot be stored, or
            `IQAZOO_OFFLINE` forbids the download. The cache is left as it was.
    """
    path, faults = _look(weights)
    if path is not None:
        return path
    cause = None
    for source in _sources(weights):
        try:
            return _download(source, weights, progress)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            cause = error
            faults.append(f"{source}: {error}")
            if source != weights.url:
                _log.warning("the mirror failed, asking %s: %s", weights.url, faults[-1])
    if environment.offline():
        faults.append("IQAZOO_OFFLINE is set: nothing may be downloaded")
    raise _error(weights, faults) from cause


def _places(weights: Weights) -> list[Path]:
    """Where the file is looked for, in order; the last is iqazoo's cache, where downloads go."""
    own = environment.cache_folder() / "weights" / weights.sha256[:16] / weights.file_name
    if FULL_SHA256.fullmatch(weights.sha256):
        return [own]
    # A name that carries its hash is a torchvision file, which torch.hub may have fetched already.
    return [environment.torch_checkpoints_folder() / weights.file_name, own]


def _look(weights: Weights) -> tuple[Path | None, list[str]]:
    """The first local file with the right hash, if any, and what is wrong in the places before it."""
    faults = []
    for path in _places(weights):
        fault = _fault(path, weights)
        if not fault:
            return path, faults
        faults.append(f"{path}: {fault}")
    return None, faults


def _fault(path: Path, weights: Weights) -> str:
    """Why the file at `path` is not the promised one; empty if it is."""
    import pooch

    try:
        got = pooch.file_hash(str(path))
    except OSError as error:
        return error.strerror or str(error)
    # The promise is a full hash, or the leading digits that the file's name carries.
    return "" if got.startswith(weights.sha256) else f"its sha256 is {got}"


def _sources(weights: Weights) -> list[str]:
    """The URLs to ask, in order; offline only those on this machine."""
    sources = [weights.url]
    if mirror := environment.weights_mirror():
        prefix = mirror if "://" in mirror else Path(mirror).expanduser().absolute().as_uri()
        sources.insert(0, f"{prefix.rstrip('/')}/{weights.file_name}")
    return [source for source in sources if _is_local(source) or not environment.offline()]


def _is_local(url: str) -> bool:
    return url.lower().startswith("file:")


def _download(source: str, weights: Weights, progress: bool) -> Path:
    """Copy `source` into the cache; a file with another hash never gets its final name."""
    *_, target = _places(weights)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as written:
        if _is_local(source):
            shutil.copyfile(url2pathname(urlsplit(source).path), written)
        else:
            _download_http(source, written, progress)
        if fault := _fault(written, weights):
            raise ValueError(fault)
    return target


def _download_http(url: str, target: Path, progress: bool) -> None:
    from pooch import HTTPDownloader

    download: Any = HTTPDownloader(chunk_size=CHUNK, timeout=TIMEOUT)
    with _bar(target.name) if progress else nullcontext() as download.progressbar:
        download(url, str(target), None)


@contextmanager
def _bar(title: str) -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=Console(stderr=True)) as drawn:
        yield _Bar(drawn, drawn.add_task(title, total=None))


class _Bar:
    """What pooch asks of a progress bar, drawn by rich."""

    def __init__(self, drawn: Progress, task: TaskID) -> None:
        self._drawn = drawn
        self._task = task

    @property
    def total(self) -> float | None:
        return self._drawn.tasks[self._task].total

    @total.setter
    def total(self, count: int) -> None:
        self._drawn.update(self._task, total=count or None)  # 0: the server did not say

    def update(self, count: int) -> None:
        self._drawn.advance(self._task, count)

    def reset(self) -> None:
        self._drawn.update(self._task, completed=0)

    def close(self) -> None:
        self._drawn.refresh()


def _error(weights: Weights, faults: list[str]) -> WeightsError:
    """The one error for all that can go wrong: what was tried, what was expected, what to do."""
    lines = [
        f"{weights.file_name} cannot be had:",
        *(f"  {fault}" for fault in faults),
        f"  expected: sha256 {weights.sha256}, published at {weights.url}",
        f"  by hand: put the file at {_places(weights)[-1]}, or say in IQAZOO_WEIGHTS_MIRROR where a copy is",
    ]
    return WeightsError("\n".join(lines))
