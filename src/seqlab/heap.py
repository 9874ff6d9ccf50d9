"""Memory that a process has freed stays its own, for what it allocates next.

By default glibc hands large blocks back to the kernel at once, and the next step of a training or a search, which wants
as many again, has every page of them cleared once more. No result depends on it.
"""

from __future__ import annotations

import ctypes

# Of mallopt(3), in <malloc.h>.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1  # bytes: the greatest int


def keep_freed() -> None:
    """For the whole process. Of a C library that has no such thing nothing is asked."""
    options = getattr(ctypes.CDLL(None), "mallopt", None)
    if options is not None:
        for threshold in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            options(threshold, NEVER)
