"""Two ways for a disk to fail under a write."""

import errno
import os
import resource
from contextlib import contextmanager


def full_disk(*_):
    """Stands in for a call of `os` on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def files_no_larger_than(size):
    """The kernel refuses what is written past `size` bytes of a file, half-way through, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
