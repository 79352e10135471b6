"""Memory that one step frees and the next one needs again."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
NEVER = -1
LARGEST = 32 << 20  # bytes; glibc takes no more


def keep_freed() -> None:
    """Have glibc keep what is freed, for the whole process.

    By default it gives blocks of megabytes back to the system, which fills each with zeros when it is asked for again:
    on two cores a sixth of the time of a step of LPIPS. Other libraries of C have no such setting.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
