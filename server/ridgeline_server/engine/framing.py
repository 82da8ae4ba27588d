"""Messages over a byte stream: size and kind in 8 bytes, then the body. Both ends are our own processes.

Batches and their answers are numbers in a row, then the raw arrays; everything else is rare or small, and pickled, as
are a batch's readouts. Arrays are neither copied on their way into the stream nor on their way out: what is read from
it are views of what was received. Only arrays of different shapes are joined first, since a system call takes few.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ridgeline_server.engine.messages import Done
from ridgeline_server.request import Batch
from ridgeline_server.sequences import Float32Array, Int32Array, Readout

Buffers = list[bytes | memoryview]

# Far above any batch's answer: a larger size is no size but garbage.
LARGEST_BODY_BYTES = 1 << 28

_HEADER = struct.Struct("=II")
HEADER_BYTES = _HEADER.size
_PICKLE, _BATCH, _DONE, _READ_BATCH, _ARRAYS_DONE = _KINDS = range(5)
# Of both, sizes are multiples of 4, so that the arrays behind them are aligned.
_BATCH_HEAD = struct.Struct("=qIII")  # id, sequences, tokens, whether there are type ids
_DONE_HEAD = struct.Struct("=qddIIIII")  # id, started, finished, padded tokens, rows and length executed, [n, dim]
# For arrays of different shapes, in place of [n, dim]: how many arrays, and how many numbers their shapes have.


# An array this many times smaller than what it came in is copied out of it.
_SMALL = 8


class FramingError(Exception):
    """What was received is no message."""


class TooLargeError(Exception):
    """A message is larger than any may be."""


def encode(message: object) -> Buffers:
    """The bytes of one message, as buffers to be written one after another. Raises TooLargeError."""
    match message:
        case Batch(readouts=None):
            return _framed(_BATCH, _encode_batch(message))
        case Batch():
            return _framed(_READ_BATCH, _encode_read_batch(message))
        case Done(outputs=np.ndarray() as outputs) if outputs.ndim == 2 and outputs.dtype == np.float32:
            return _framed(_DONE, _encode_done(message, outputs))
        case Done(outputs=list() as arrays) if all(array.dtype == np.float32 for array in arrays):
            return _framed(_ARRAYS_DONE, _encode_arrays(message, arrays))
    return _framed(_PICKLE, [pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)])


def decode(kind: int, body: memoryview) -> Any:
    """The message of a frame; its arrays are views of `body`, small ones of many apart. Raises FramingError if none."""
    try:
        if kind == _DONE:
            return _decode_done(body)
        if kind == _BATCH:
            return _decode_batch(body)
        if kind == _READ_BATCH:
            return _decode_read_batch(body)
        if kind == _ARRAYS_DONE:
            return _decode_arrays(body)
        return pickle.loads(body)
    except Exception as error:  # whatever unpickling garbage raises
        raise FramingError(f"{len(body)} bytes make no message: {error!r}") from error


def _framed(kind: int, parts: Buffers) -> Buffers:
    size = sum(map(len, parts))
    _check_size(size)
    return [_HEADER.pack(size, kind) + parts[0], *parts[1:]]


def _check_size(size: int) -> None:
    if size > LARGEST_BODY_BYTES:
        raise TooLargeError(f"it takes {size} bytes; a message may have {LARGEST_BODY_BYTES}")


def _encode_batch(batch: Batch) -> Buffers:
    ids, lengths, types = batch.input_ids, batch.lengths, batch.token_type_ids
    arrays = [_int32(lengths), _int32(ids), *([] if types is None else [_int32(types)])]
    return [_BATCH_HEAD.pack(batch.id, len(lengths), len(ids), types is not None), *map(_bytes, arrays)]


def _encode_read_batch(batch: Batch) -> Buffers:
    """The batch, then the number of each sequence's readout, and the different readouts: they are few."""
    readouts = batch.readouts or ()
    different = {id(readout): readout for readout in readouts}  # by value would look at every token id asked about
    numbers = {key: number for number, key in enumerate(different)}
    indices = np.fromiter((numbers[id(readout)] for readout in readouts), np.int32, len(readouts))
    table = pickle.dumps(tuple(different.values()), protocol=pickle.HIGHEST_PROTOCOL)
    return [*_encode_batch(batch), _bytes(indices), table]


def _int32(array: Int32Array) -> Int32Array:
    return np.ascontiguousarray(array, dtype=np.int32)


def _bytes(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _decode_batch(body: memoryview) -> Batch:
    batch_id, sequences, tokens, has_types = _BATCH_HEAD.unpack_from(body)
    ids_at = _BATCH_HEAD.size + 4 * sequences
    types = np.frombuffer(body, np.int32, tokens, ids_at + 4 * tokens) if has_types else None
    lengths = np.frombuffer(body, np.int32, sequences, _BATCH_HEAD.size)
    return Batch(batch_id, np.frombuffer(body, np.int32, tokens, ids_at), lengths, types)


def _decode_read_batch(body: memoryview) -> Batch:
    batch = _decode_batch(body)
    sequences, arrays = len(batch.lengths), 1 if batch.token_type_ids is None else 2
    at = _BATCH_HEAD.size + 4 * (sequences + arrays * len(batch.input_ids))
    indices = np.frombuffer(body, np.int32, sequences, at)
    table: tuple[Readout, ...] = pickle.loads(body[at + 4 * sequences :])
    return replace(batch, readouts=tuple(table[index] for index in indices.tolist()))


def _encode_done(done: Done, outputs: Float32Array) -> Buffers:
    return [_done_head(done, outputs.shape[0], outputs.shape[1]), _bytes(np.ascontiguousarray(outputs))]


def _encode_arrays(done: Done, arrays: Sequence[Float32Array]) -> Buffers:
    """All ranks, then all shapes, then all arrays end to end."""
    sizes = [size for array in arrays for size in array.shape]
    numbers = np.array([*(array.ndim for array in arrays), *sizes], dtype=np.int32)
    _check_size(_DONE_HEAD.size + numbers.nbytes + sum(array.nbytes for array in arrays))  # before they are copied
    joined = np.concatenate([array.reshape(-1) for array in arrays]) if arrays else np.zeros(0, np.float32)
    return [_done_head(done, len(arrays), len(sizes)), _bytes(numbers), _bytes(joined)]


def _done_head(done: Done, rows: int, columns: int) -> bytes:
    return _DONE_HEAD.pack(done.batch_id, done.started, done.finished, done.padded_tokens, *done.shape, rows, columns)


def _decode_done(body: memoryview) -> Done:
    batch_id, started, finished, padded_tokens, rows, length, sequences, dim = _DONE_HEAD.unpack_from(body)
    outputs = np.frombuffer(body, np.float32, sequences * dim, _DONE_HEAD.size).reshape(sequences, dim)
    return Done(batch_id, outputs, padded_tokens, (rows, length), started, finished)


def _decode_arrays(body: memoryview) -> Done:
    batch_id, started, finished, padded_tokens, rows, length, count, dimensions = _DONE_HEAD.unpack_from(body)
    numbers = np.frombuffer(body, np.int32, count + dimensions, _DONE_HEAD.size).tolist()
    values = np.frombuffer(body, np.float32, offset=_DONE_HEAD.size + 4 * len(numbers))
    arrays: list[Float32Array] = []
    at, start = count, 0
    for rank in numbers[:count]:
        shape = numbers[at : at + rank]
        end = start + prod(shape)
        array = values[start:end].reshape(shape)
        # A small one, held until its request has all its answers, must not hold its whole batch's.
        arrays.append(array.copy() if _SMALL * array.nbytes < len(body) else array)
        at, start = at + rank, end
    return Done(batch_id, arrays, padded_tokens, (rows, length), started, finished)


def read_header(data: bytes, start: int = 0) -> tuple[int, int]:
    """(size of the body, kind) of the header at `start`. Raises FramingError when there is no such thing."""
    size, kind = _HEADER.unpack_from(data, start)
    if kind not in _KINDS:
        raise FramingError(f"kind {kind} is unknown")
    if size > LARGEST_BODY_BYTES:
        raise FramingError(f"a message of {size} bytes is announced, at most {LARGEST_BODY_BYTES} are allowed")
    return size, kind


def read_frame(stream: BinaryIO) -> Any:
    """The next message of a blocking stream. Raises EOFError at its end."""
    header = stream.read(HEADER_BYTES)
    if len(header) < HEADER_BYTES:
        raise EOFError
    size, kind = read_header(header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return decode(kind, memoryview(body))


def write_frame(connection: socket.socket, message: object) -> None:
    """Write a message to a blocking socket, in one system call unless a signal comes between."""
    buffers = encode(message)
    sent = connection.sendmsg(buffers)
    if sent < sum(map(len, buffers)):
        for buffer in buffers:
            connection.sendall(memoryview(buffer)[sent:])
            sent = max(0, sent - len(buffer))
