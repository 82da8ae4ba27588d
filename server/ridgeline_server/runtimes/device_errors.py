"""Errors after which a GPU's context is of no more use: every later call on it fails too."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from ridgeline_server.runtimes.devices import Device

# cudaError_t: ECC, illegal address, launch timeout, destroyed context, assert, hardware stack, illegal instruction,
# misaligned address, invalid address space, invalid program counter, launch failure, unknown.
_STICKY_CODES = {214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999}
_CODE = re.compile(r"CUDA failure (\d+)")
_STICKY_WORDS = re.compile(
    r"illegal memory access|illegal instruction|misaligned address|unspecified launch failure|device-side assert"
    r"|uncorrectable ECC|context is destroyed",
    re.IGNORECASE,
)


def is_device_lost(device: Device, error: Exception, answers: Callable[[Device], bool] | None = None) -> bool:
    """True when an error on a GPU says that its context is lost, or when the GPU no longer copies a number.

    answers: copies one through the library that serves; None = through ONNX Runtime
    False on a CPU. Running out of memory loses no context.
    """
    if device.kind == "cpu":
        return False
    return names_sticky_error(str(error)) or not (answers or _answers)(device)


def names_sticky_error(message: str) -> bool:
    """True when a library's message names a CUDA error that every later call will return too."""
    code = _CODE.search(message)
    return (code is not None and int(code[1]) in _STICKY_CODES) or _STICKY_WORDS.search(message) is not None


def _answers(device: Device) -> bool:
    import onnxruntime as ort

    try:
        value = ort.OrtValue.ortvalue_from_numpy(np.ones(1, np.float32), device.kind, device.index)
        return bool(value.numpy()[0] == 1)
    except Exception:  # whatever it is, the device does not answer
        return False
