"""NVIDIA GPUs of this machine, asked of the driver itself: no CUDA toolkit and no Python package is needed."""

from __future__ import annotations

import ctypes
from functools import cache

_NAME_BYTES = 256
# CUdevice_attribute of the driver's cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


@cache
def cuda_devices() -> tuple[str, ...]:
    """Names of the GPUs in CUDA's order, those that CUDA_VISIBLE_DEVICES hides left out; empty without a driver."""
    driver, count = _open()
    return tuple(_name(driver, index) for index in range(count))


@cache
def compute_capabilities() -> tuple[tuple[int, int] | None, ...]:
    """Major and minor number of each GPU, in the order of `cuda_devices`; None for those that cannot be asked."""
    driver, count = _open()
    return tuple(_capability(driver, index) for index in range(count))


def _open() -> tuple[ctypes.CDLL, int]:
    """The driver and its number of GPUs; this process's own symbols and 0 where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ctypes.CDLL(None), 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return driver, 0
    return driver, count.value


def _capability(driver: ctypes.CDLL, index: int) -> tuple[int, int] | None:
    device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
    if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
        return None
    for value, attribute in ((major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) != 0:
            return None
    return major.value, minor.value


def _name(driver: ctypes.CDLL, index: int) -> str:
    device = ctypes.c_int(0)
    buffer = ctypes.create_string_buffer(_NAME_BYTES)
    if driver.cuDeviceGet(ctypes.byref(device), index) != 0 or driver.cuDeviceGetName(buffer, _NAME_BYTES, device) != 0:
        return "unknown GPU"
    return buffer.value.decode(errors="replace")
