"""NVIDIA GPUs of this machine, asked of the driver itself: no CUDA toolkit and no Python package is needed."""

from __future__ import annotations

import ctypes
from functools import cache

_NAME_BYTES = 256


@cache
def cuda_devices() -> tuple[str, ...]:
    """Names of the GPUs in CUDA's order, those that CUDA_VISIBLE_DEVICES hides left out; empty without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(_name(driver, index) for index in range(count.value))


def _name(driver: ctypes.CDLL, index: int) -> str:
    device = ctypes.c_int(0)
    buffer = ctypes.create_string_buffer(_NAME_BYTES)
    if driver.cuDeviceGet(ctypes.byref(device), index) != 0 or driver.cuDeviceGetName(buffer, _NAME_BYTES, device) != 0:
        return "unknown GPU"
    return buffer.value.decode(errors="replace")
