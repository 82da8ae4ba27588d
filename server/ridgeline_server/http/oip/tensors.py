"""Tensors of the protocol: data types, and the two ways in which their elements travel."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.http.errors import quote

# Names of the protocol's types → NumPy's, little-endian as they travel; BYTES are objects of type bytes.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
# No input has more.
_MOST_DIMENSIONS = 2
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor.

    array: its elements in its shape, of the NumPy type of `datatype`; of BYTES, bytes objects
    """

    name: str
    datatype: str
    array: npt.NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return self.array.shape


def read_shape(value: object, name: str, datatype: str, most_inputs: int) -> tuple[int, ...]:
    """A shape of an input as a message gives it, checked before its elements are looked at.

    Raises InvalidInputError unless it is a list of whole numbers from 0 on, RequestTooLargeError for too many inputs.
    """
    is_shape = isinstance(value, Sequence) and not isinstance(value, str) and len(value) <= _MOST_DIMENSIONS
    if not is_shape or not all(type(size) is int and 0 <= size < 2**31 for size in value):  # type: ignore[attr-defined]
        is_flat = is_shape and not any(isinstance(size, list | dict) for size in value)  # type: ignore[attr-defined]
        picture = str(value)[:80] if is_flat else quote(value)
        raise InvalidInputError(
            f"the shape of input '{name}' is {picture}; give an array of up to {_MOST_DIMENSIONS} whole "
            "numbers from 0 on",
            name,
        )
    shape: tuple[int, ...] = tuple(value)  # type: ignore[arg-type]
    inputs = math.prod(shape if datatype == "BYTES" else shape[:1])
    if inputs > most_inputs:
        raise RequestTooLargeError(
            f"input '{name}' holds {inputs} inputs; one request may hold {most_inputs}: send several", name
        )
    return shape


def check_datatype(value: object, name: str) -> str:
    """A data type's name. Raises InvalidInputError for one that the protocol does not have."""
    if isinstance(value, str) and value in DATATYPES:
        return value
    raise InvalidInputError(f"the datatype of input '{name}' is {quote(value)}; allowed: {', '.join(DATATYPES)}", name)


def of_values(name: str, datatype: str, shape: tuple[int, ...], values: object) -> Tensor:
    """A tensor of elements as JSON has them: an array, flat or nested as the shape is.

    Raises InvalidInputError for elements of another type or number.
    """
    flat = _flattened(values, name)
    _check_count(name, shape, len(flat))
    if datatype == "BYTES":
        others = [value for value in flat if not isinstance(value, str | bytes)]
        if others:
            raise InvalidInputError(
                f"input '{name}' is of datatype BYTES and holds {quote(others[0])}; give texts", name
            )
        return Tensor(name, datatype, _objects([_encoded(value) for value in flat], shape))
    kinds: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int,)
    if datatype.startswith("FP"):
        kinds = (int, float)
    if not set(map(type, flat)) <= set(kinds):
        misfit = next(value for value in flat if type(value) not in kinds)
        raise InvalidInputError(f"input '{name}' is of datatype {datatype} and holds {quote(misfit)}", name)
    try:
        return Tensor(name, datatype, np.array(flat, dtype=DATATYPES[datatype]).reshape(shape))
    except OverflowError:
        raise InvalidInputError(f"input '{name}' holds a number that {datatype} has no room for", name) from None


def of_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Tensor:
    """A tensor of raw elements: little-endian, in C order; of BYTES, each behind its length as 4 bytes.

    Raises InvalidInputError for data of another size.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _objects(_split(name, bytes(data), count), shape))
    dtype = DATATYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidInputError(
            f"input '{name}' of shape {list(shape)} and datatype {datatype} takes {count * dtype.itemsize} bytes; "
            f"{len(data)} were given",
            name,
        )
    if datatype == "BOOL":
        return Tensor(name, datatype, (np.frombuffer(data, np.uint8) != 0).reshape(shape))
    return Tensor(name, datatype, np.frombuffer(data, dtype).reshape(shape))


def to_bytes(tensor: Tensor) -> bytes:
    """The elements as `of_bytes` reads them."""
    if tensor.datatype == "BYTES":
        return b"".join(_LENGTH.pack(len(value)) + value for value in tensor.array.reshape(-1))
    return np.ascontiguousarray(tensor.array, DATATYPES[tensor.datatype]).tobytes()


def to_values(tensor: Tensor) -> Any:
    """The elements as JSON has them, in C order: texts of BYTES, else a flat array."""
    if tensor.datatype == "BYTES":
        return [value.decode("utf-8", "replace") for value in tensor.array.reshape(-1)]
    return np.ascontiguousarray(tensor.array).reshape(-1)


def texts_of(tensor: Tensor) -> list[str]:
    """The elements of a BYTES tensor as texts. Raises InvalidInputError for what is not UTF-8."""
    texts = []
    for index, value in enumerate(tensor.array.reshape(-1)):
        try:
            texts.append(value.decode("utf-8"))
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"element {index} of input '{tensor.name}' is not UTF-8; send texts in UTF-8", tensor.name
            ) from None
    return texts


def texts_tensor(name: str, texts: Sequence[str | bytes], shape: tuple[int, ...] | None = None) -> Tensor:
    """A BYTES tensor of texts, of one dimension unless a shape is given."""
    return Tensor(name, "BYTES", _objects([_encoded(text) for text in texts], shape or (len(texts),)))


def _encoded(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _objects(values: Sequence[bytes], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _flattened(values: object, name: str) -> list[Any]:
    if not isinstance(values, list):
        raise InvalidInputError(f"`data` of input '{name}' is not an array; give its elements as one", name)
    for _ in range(_MOST_DIMENSIONS):
        kinds = set(map(type, values))
        if list not in kinds:
            return values
        if len(kinds) > 1:
            break
        values = list(chain.from_iterable(values))
    raise InvalidInputError(f"`data` of input '{name}' is nested unevenly; give a flat array in row-major order", name)


def _check_count(name: str, shape: tuple[int, ...], given: int) -> None:
    if math.prod(shape) != given:
        raise InvalidInputError(
            f"input '{name}' of shape {list(shape)} has {math.prod(shape)} elements; {given} were given", name
        )


def _split(name: str, data: bytes, count: int) -> list[bytes]:
    values: list[bytes] = []
    at = 0
    while at < len(data) and len(values) <= count:
        end = at + _LENGTH.size
        if end > len(data) or end + _LENGTH.unpack_from(data, at)[0] > len(data):
            raise InvalidInputError(
                f"input '{name}' ends inside element {len(values)}; each element is its length as 4 bytes, then itself",
                name,
            )
        at = end + _LENGTH.unpack_from(data, at)[0]
        values.append(data[end:at])
    if len(values) != count or at != len(data):
        raise InvalidInputError(
            f"input '{name}' has {count} elements by its shape; its data holds "
            f"{'more' if at < len(data) else len(values)}",
            name,
        )
    return values
