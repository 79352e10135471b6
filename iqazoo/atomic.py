"""Files and folders that appear whole or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `target` in one step when the block ends well.

    If anything fails, Ctrl-C included, what was written vanishes and `target` stays as it was. Any number of
    processes may do this to one target at once: the last to end wins.

    Args:
        target: the file to write; its folder must exist.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    # A folder of our own beside the target: same file system, no clash of names, ordinary file permissions.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = Path(folder) / target.name
        yield written
        _flush_to_disk(written)
        os.replace(written, target)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """As `replacing`, for a folder of files: give an empty one to fill, renamed to `target` when the block ends well.

    A process that is killed meanwhile leaves a folder whose name begins with a dot; `sweep` removes those. A kill or a
    failure while one folder takes the place of another may cost both: give what cannot be made again a new name.

    Args:
        target: the folder to make; the one that it is to lie in must exist.

    Raises:
        OSError: as for `replacing`.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = Path(folder) / target.name
        written.mkdir()
        yield written
        for file in written.iterdir():
            _flush_to_disk(file)
        _flush_to_disk(written)
        if target.exists():  # two renames, as no call swaps folders; a kill between them costs both
            os.rename(target, Path(folder) / "old")
        os.rename(written, target)
        _flush_to_disk(target.parent)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """As `replacing_folder`, for a tree of files that must take the place of nothing.

    Args:
        target: the folder to make; the one that it is to lie in must exist.

    Raises:
        FileExistsError: there is something of that name.
        OSError: as for `replacing`.
    """
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = Path(folder) / target.name
        written.mkdir()
        yield written
        for path in (*written.rglob("*"), written):
            _flush_to_disk(path)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        os.rename(written, target)  # if somebody makes it just now, this fails unless theirs is empty
        _flush_to_disk(target.parent)


def remove_folder(target: Path) -> None:
    """Remove a folder so that no part of it is ever seen under its name."""
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        os.rename(target, Path(folder) / target.name)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left of files and folders named `prefix`*; no other may be writing there."""
    for left in folder.glob(f".{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one process at a time through, where the system and the file system can.

    Args:
        lock: a file that is made, and stays; its folder must exist.

    Raises:
        OSError: the file cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # on Windows two processes may do the same work twice, which harms nothing
        yield
        return
    with open(lock, "w") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flush_to_disk(path: Path) -> None:
    """Make sure that a crash just after the replacement cannot leave an empty file in place of a good one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
