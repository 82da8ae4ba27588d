"""Tensors of ONNX files as torch tensors: from inside the file, or from a file of weights, mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from ridgeline_kernels.errors import GraphFileError, InvalidGraphError, UnsupportedOpError

# onnx.TensorProto.DataType
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
}
"""ONNX's number of a dtype → torch's: the dtypes that a packed graph may hold."""


def dtype_of(number: int, what: str) -> torch.dtype:
    """torch's dtype for ONNX's number of it; `what` has it. Raises UnsupportedOpError."""
    if number not in DTYPES:
        from onnx import TensorProto

        known = TensorProto.DataType.values()
        name = TensorProto.DataType.Name(number) if number in known else str(number)
        allowed = ", ".join(TensorProto.DataType.Name(known_number) for known_number in DTYPES)
        raise UnsupportedOpError(f"{what} has the dtype {name}, and the executor takes {allowed}")
    return DTYPES[number]


@dataclass(frozen=True, slots=True)
class Held:
    """A constant that is in memory."""

    tensor: torch.Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def read(self) -> torch.Tensor:
        return self.tensor


@dataclass(frozen=True, slots=True)
class Mapped:
    """A constant in a file of weights, [offset, offset + size) bytes of it."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def read(self) -> torch.Tensor:
        raw = _mapped(self.path, self.path.stat().st_size)[self.offset : self.offset + self.size_bytes]
        if self.offset % self.dtype.itemsize:
            raw = raw.clone()
        return raw.view(self.dtype).view(self.shape)


@cache
def _mapped(path: Path, size_bytes: int) -> torch.Tensor:
    return torch.from_file(str(path), shared=False, size=size_bytes, dtype=torch.uint8)


def forget_mapped_files() -> None:
    """Let go of the mappings, after a model is loaded: tensors that are views of them keep theirs."""
    _mapped.cache_clear()


def held_tensor(proto: Any, what: str) -> torch.Tensor:
    """The values of an onnx.TensorProto that are in the file itself. Raises InvalidGraphError, UnsupportedOpError."""
    from onnx import numpy_helper

    dtype = dtype_of(proto.data_type, what)
    shape = tuple(proto.dims)
    if proto.HasField("raw_data"):
        raw = proto.raw_data
    else:
        try:
            raw = numpy_helper.to_array(proto).tobytes()
        except ValueError as error:
            raise InvalidGraphError(f"{what} holds other values than its shape {list(shape)} says: {error}") from None
    wanted = prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise InvalidGraphError(
            f"{what} holds {len(raw)} bytes, and its shape {list(shape)} needs {wanted}: export the model again"
        )
    if not wanted:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype).view(shape)


def mapped_tensor(proto: Any, what: str, directory: Path) -> Mapped:
    """Where an onnx.TensorProto's values are in a file below `directory`; whether they are there is not looked at.

    Raises GraphFileError, InvalidGraphError, UnsupportedOpError.
    """
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    path = (directory / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(directory.resolve()):
        raise GraphFileError(
            f"{what} has its values in {location!r}, outside of {directory}: weights must be in the graph's directory"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        raise InvalidGraphError(
            f"{what} has its values at offset {entries.get('offset')!r} and with length {entries.get('length')!r}; "
            "both must be numbers"
        ) from None
    mapped = Mapped(proto.name, dtype_of(proto.data_type, what), tuple(proto.dims), path, offset)
    if offset < 0 or any(size < 0 for size in mapped.shape) or length not in (-1, mapped.size_bytes):
        raise InvalidGraphError(
            f"{what} has {length} bytes at offset {offset} of {location}, and its shape {list(mapped.shape)} needs "
            f"{mapped.size_bytes}: export the model again"
        )
    return mapped


def check_mapped(mapped: Mapped, what: str, graph: Path) -> None:
    """Raise GraphFileError unless the file of weights is there and long enough."""
    if not mapped.path.is_file():
        raise GraphFileError(
            f"{graph} has its weights in {mapped.path}, which is missing: copy it there, or give a seed for random ones"
        )
    size_bytes, needed = mapped.path.stat().st_size, mapped.offset + mapped.size_bytes
    if size_bytes < needed:
        raise GraphFileError(
            f"{mapped.path} has {size_bytes} bytes and {what} needs {needed}: the file was cut short; copy it again"
        )
