"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def _flush_to_disk(path: Path) -> None:
    """Make sure that a crash just after the replacement cannot leave an empty file in place of a good one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
