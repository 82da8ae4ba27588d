"""The C heap of the server's process: large buffers are given back when they are freed.

glibc maps buffers from 128 KiB on by themselves, at first. Whenever one of them is freed, it raises that size to the
buffer's, up to 32 MiB; from then on bodies, answers and replies lie in one heap, between small things that stay, and
what is freed there is given back only at the heap's end. Fuzzed, 23 MiB in use held 150 MiB so. A fixed size ends that.
"""

from __future__ import annotations

import ctypes

_LARGE_BYTES = 128 * 1024
# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def give_back_large_buffers() -> bool:
    """Let every buffer of 128 KiB and more be mapped by itself; False where the C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES))
