"""What the server's process does not keep of large buffers."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Buffers of all sizes, freed in another order than they came, small things that stay between them.
_CHURN = """
import ctypes, random, sys
from ridgeline_server.heap import give_back_large_buffers

def anonymous():
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))

if sys.argv[1] == "fixed":
    assert give_back_large_buffers()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def allocate(size):
    buffer = libc.malloc(size)
    ctypes.memset(buffer, 1, size)
    return buffer

libc.free(allocate(20 << 20))
before, rng = anonymous(), random.Random(0)
for _ in range(40):
    buffers = []
    for _ in range(30):
        buffers.append(allocate(rng.randrange(200_000, 3_000_000)))
        allocate(600)
    for buffer in rng.sample(buffers, len(buffers)):
        libc.free(buffer)
print(anonymous() - before)
"""


def _kept_kib(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", _CHURN, way], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other ways")
def test_freed_buffers_are_not_kept_between_small_things_that_stay() -> None:
    fixed, usual = _kept_kib("fixed"), _kept_kib("usual")
    assert fixed < 8 * 1024
    assert usual > 2 * fixed, "glibc has learned it: the module is of no use any more"
