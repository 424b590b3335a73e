"""The C heap, in which all models of a process keep their weights and intermediate results.

ONNX Runtime's own arena grows to what the largest micro-batch of each model needs, and never
shrinks: 240 MB for each MobileNetV2.  Without it models share the heap, so that what one call frees
is there for the next, of whichever model; what is unloaded goes back to the system.

Does nothing where the C library is not glibc.
"""

import ctypes
import sys
from functools import cache

# <malloc.h> of glibc.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# Intermediate results have up to a hundred MB.  By default glibc maps blocks of that size for each
# call anew, and the kernel clears them: a micro-batch of 16 takes 40 % longer.
MMAP_THRESHOLD_BYTES = 256 * 2**20
# The most that glibc before 2.35 takes.
OLD_MMAP_THRESHOLD_BYTES = 32 * 2**20
TRIM_THRESHOLD_BYTES = 512 * 2**20


@cache
def _libc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


@cache
def share_heap() -> None:
    """Makes all threads use one heap, which keeps what it frees until `trim_heap`; idempotent."""
    if (libc := _libc()) is not None:
        if not libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES):
            libc.mallopt(M_MMAP_THRESHOLD, OLD_MMAP_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
        libc.mallopt(M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Gives free memory back to the system; blocks for milliseconds."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)
