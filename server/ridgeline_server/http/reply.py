"""Answers as reply bodies, serialized once."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from ridgeline_server.http.exchange import OCTETS, Headers
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tasks.scores import finite

# Numbers or entries that are written in one go: a few milliseconds of them.
_AT_ONCE = 16_384


def as_json(value: object) -> bytes:
    """JSON, NumPy arrays as arrays of numbers."""
    return orjson.dumps(value, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)


def _as_list(value: object) -> object:
    """What orjson does not write itself: arrays that are not in C order, or not of native numbers."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"an answer cannot hold {type(value).__name__}")


def json_in_pieces(value: object) -> bytes:
    """What `as_json` gives, written so that other threads, the event loop's among them, run between pieces of it.

    orjson holds the interpreter's lock for as long as it writes; joining bytes gives it back.
    """
    return b"".join(_pieces(value))


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, np.ndarray) and value.size > _AT_ONCE:
        rows = _AT_ONCE // value[0].size
        yield from _array(_slices(value, rows) if rows else map(_pieces, value))
    elif isinstance(value, (list, tuple)):
        # What a list holds is of one kind, so that the first tells.
        yield from _array(map(_pieces, value) if value and _is_nested(value[0]) else _slices(value, _AT_ONCE))
    elif not isinstance(value, np.ndarray) and _is_nested(value):
        for number, (name, field) in enumerate(_fields(value).items()):
            yield (b"," if number else b"{") + as_json(name) + b":"
            yield from _pieces(field)
        yield b"}"
    else:
        yield as_json(value)


def _array(parts: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    yield b"["
    for number, part in enumerate(parts):
        if number:
            yield b","
        yield from part
    yield b"]"


def _slices(value: Sequence[object] | npt.NDArray[Any], length: int) -> Iterator[tuple[bytes]]:
    return ((as_json(value[start : start + length])[1:-1],) for start in range(0, len(value), length))


def _is_nested(value: object) -> bool:
    """Whether it holds more than a few numbers and texts."""
    return isinstance(value, (list, tuple, np.ndarray)) or any(
        isinstance(field, (list, tuple, dict, np.ndarray)) for field in _fields(value).values()
    )


def _fields(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {name: getattr(value, name) for name in getattr(value, "__dataclass_fields__", ())}


def contiguous(outputs: Float32Array) -> Float32Array:
    """The outputs as every reply needs them: C order, native float32.

    Raises: ExecutionError when a value is not finite, which JSON cannot carry
    """
    return finite(np.ascontiguousarray(outputs, dtype=np.float32))


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
