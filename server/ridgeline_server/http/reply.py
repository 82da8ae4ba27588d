"""Embeddings as reply bodies, serialized once."""

from __future__ import annotations

import binascii
import math

import numpy as np
import orjson

from ridgeline_server.errors import ExecutionError
from ridgeline_server.request import Float32Array


def as_json(value: object) -> bytes:
    """JSON, NumPy arrays as arrays of numbers."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def contiguous(outputs: Float32Array) -> Float32Array:
    """The outputs as orjson and base64 need them: C order, native float32.

    Raises: ExecutionError when a value is not finite, which JSON cannot carry
    """
    outputs = np.ascontiguousarray(outputs, dtype=np.float32)
    # A finite sum proves every term finite; a sum can also overflow, so only the slow way proves the contrary.
    if not math.isfinite(outputs.sum()) and not np.isfinite(outputs).all():
        raise ExecutionError("the model's answer to this input holds values that are not finite")
    return outputs


def as_base64(row: Float32Array) -> str:
    """The row's float32 bytes, little-endian, in base64."""
    return binascii.b2a_base64(row.astype("<f4", copy=False).data, newline=False).decode()
