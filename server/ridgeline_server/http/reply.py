"""Embeddings as reply bodies, serialized once."""

from __future__ import annotations

import binascii
import math

import numpy as np
import orjson

from ridgeline_server.errors import ExecutionError
from ridgeline_server.http.exchange import OCTETS, Headers
from ridgeline_server.sequences import Float32Array


def as_json(value: object) -> bytes:
    """JSON, NumPy arrays as arrays of numbers."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def contiguous(outputs: Float32Array) -> Float32Array:
    """The outputs as every reply needs them: C order, native float32.

    Raises: ExecutionError when a value is not finite, which JSON cannot carry
    """
    outputs = np.ascontiguousarray(outputs, dtype=np.float32)
    # A finite sum proves every term finite; a sum can also overflow, so only the slow way proves the contrary.
    if not math.isfinite(np.add.reduce(outputs, axis=None)) and not np.isfinite(outputs).all():
        raise ExecutionError("the model's answer to this input holds values that are not finite")
    return outputs


def as_base64(row: Float32Array) -> str:
    """The row's float32 bytes, little-endian, in base64."""
    return binascii.b2a_base64(row.astype("<f4", copy=False).data, newline=False).decode()


def as_raw(rows: Float32Array, tokens: int) -> tuple[bytes, Headers]:
    """Body and headers of a reply without JSON: the rows [inputs, dim] as little-endian float32, in C order.

    rows: contiguous
    """
    shape = b"%d,%d" % rows.shape
    headers = [OCTETS, (b"x-shape", shape), (b"x-dtype", b"float32"), (b"x-tokens", b"%d" % tokens)]
    return rows.astype("<f4", copy=False).tobytes(), headers
