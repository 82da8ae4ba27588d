"""Embeddings as reply bodies, serialized once."""

from __future__ import annotations

import binascii
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from ridgeline_server.errors import ExecutionError
from ridgeline_server.http.exchange import OCTETS, Headers
from ridgeline_server.sequences import Float32Array

_NOT_FINITE = "the model's answer to this input holds values that are not finite"


def as_json(value: object) -> bytes:
    """JSON, NumPy arrays as arrays of numbers."""
    return orjson.dumps(value, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_list(value: object) -> object:
    """What orjson does not write itself: arrays that are not in C order, or not of native numbers."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"an answer cannot hold {type(value).__name__}")


def check_finite(value: object) -> None:
    """Raises: ExecutionError when a number in an answer is not finite, which JSON cannot carry

    value: numbers, arrays, dataclasses, and what holds them
    """
    if isinstance(value, (list, tuple)):
        for entry in value:
            check_finite(entry)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            _check_array(value)
    elif isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise ExecutionError(_NOT_FINITE)
    elif isinstance(value, dict):
        check_finite(list(value.values()))
    elif dataclasses.is_dataclass(value):
        for name in value.__dataclass_fields__:
            check_finite(getattr(value, name))


def contiguous(outputs: Float32Array) -> Float32Array:
    """The outputs as every reply needs them: C order, native float32.

    Raises: ExecutionError when a value is not finite, which JSON cannot carry
    """
    outputs = np.ascontiguousarray(outputs, dtype=np.float32)
    _check_array(outputs)
    return outputs


def _check_array(array: npt.NDArray[np.floating]) -> None:
    # A finite sum proves every term finite; a sum can also overflow, so only the slow way proves the contrary.
    if not math.isfinite(np.add.reduce(array, axis=None)) and not np.isfinite(array).all():
        raise ExecutionError(_NOT_FINITE)


def matrix(outputs: Sequence[object]) -> npt.NDArray[Any] | None:
    """Answers that are vectors of one length and type as one array [inputs, dim]; None for others."""
    rows = [row for row in outputs if isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "fiu"]
    if len(rows) < len(outputs) or len({(row.shape, row.dtype) for row in rows}) != 1:
        return None
    return np.stack(rows)


def as_base64(row: Float32Array) -> str:
    """The row's float32 bytes, little-endian, in base64."""
    return binascii.b2a_base64(row.astype("<f4", copy=False).data, newline=False).decode()


def as_raw(rows: npt.NDArray[Any], tokens: int) -> tuple[bytes, Headers]:
    """Body and headers of a reply without JSON: the rows [inputs, dim], little-endian, in C order.

    rows: contiguous
    """
    shape = b"%d,%d" % rows.shape
    headers = [OCTETS, (b"x-shape", shape), (b"x-dtype", rows.dtype.name.encode()), (b"x-tokens", b"%d" % tokens)]
    return rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes(), headers
