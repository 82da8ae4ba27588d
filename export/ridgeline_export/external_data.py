"""Which files an ONNX graph keeps its weights in, read from its bytes: without the package onnx, which servers lack.

Runtimes open these files by themselves, so that a graph could have them open any file of the machine. A graph is a
protobuf message; only what can hold a tensor is walked, the rest is skipped. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

# Message → number of a field → the message in it.
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_MOST_DEPTH = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_locations(path: Path) -> set[str]:
    """The `location` of each tensor outside of the graph's file, as it stands there.

    Raises OSError, or ValueError for what is no such message.
    """
    with open(path, "rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found: set[str] = set()
            pending = [("model", 0, len(data), 0)]
            while pending:
                kind, start, end, depth = pending.pop()
                if depth > _MOST_DEPTH:
                    raise ValueError("it is nested too deeply")
                for number, first, last in _parts(data, start, end):
                    inner = _FIELDS[kind].get(number)
                    if inner == "entry":
                        key, value = _entry(data, first, last)
                        if key == b"location":
                            found.add(value.decode("utf-8", "surrogateescape"))
                    elif inner is not None:
                        pending.append((inner, first, last, depth + 1))
            return found


def _entry(data: mmap.mmap, start: int, end: int) -> tuple[bytes, bytes]:
    key = value = b""
    for number, first, last in _parts(data, start, end):
        if number == 1:
            key = data[first:last]
        elif number == 2:
            value = data[first:last]
    return key, value


def _parts(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and end of each field of a message that holds bytes."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire == _BYTES:
            length, at = _varint(data, at, end)
            if length > end - at:
                raise ValueError("a field is longer than what it stands in")
            yield number, at, at + length
            at += length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"a field has the wire type {wire}")
    if at > end:
        raise ValueError("it ends within a field")


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("it ends within a number")
