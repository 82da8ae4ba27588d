"""Messages over a byte stream: size and kind in 8 bytes, then the body. Both ends are our own processes.

Batches and their answers are numbers in a row, then the raw arrays; everything else is rare, and pickled. Arrays are
neither copied on their way into the stream nor on their way out: what is read from it are views of what was received.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ridgeline_server.engine.messages import Done
from ridgeline_server.request import Batch
from ridgeline_server.sequences import Int32Array

Buffers = list[bytes | memoryview]

# Far above any batch's answer: a larger size is no size but garbage.
LARGEST_BODY_BYTES = 1 << 28

_HEADER = struct.Struct("=II")
HEADER_BYTES = _HEADER.size
_PICKLE, _BATCH, _DONE = _KINDS = range(3)
# Of both, sizes are multiples of 4, so that the arrays behind them are aligned.
_BATCH_HEAD = struct.Struct("=qIII")  # id, sequences, tokens, whether there are type ids
_DONE_HEAD = struct.Struct("=qddIIIII")  # id, started, finished, padded tokens, rows and length executed, [n, dim]


class FramingError(Exception):
    """What was received is no message."""


def encode(message: object) -> Buffers:
    """The bytes of one message, as buffers to be written one after another."""
    match message:
        case Batch():
            return _encode_batch(message)
        case Done(outputs=np.ndarray() as outputs) if outputs.ndim == 2 and outputs.dtype == np.float32:
            return _encode_done(message)
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return [_HEADER.pack(len(body), _PICKLE) + body]


def decode(kind: int, body: memoryview) -> Any:
    """The message of a frame; its arrays are views of `body`. Raises FramingError when it is none."""
    try:
        if kind == _DONE:
            return _decode_done(body)
        if kind == _BATCH:
            return _decode_batch(body)
        return pickle.loads(body)
    except Exception as error:  # whatever unpickling garbage raises
        raise FramingError(f"{len(body)} bytes make no message: {error!r}") from error


def _encode_batch(batch: Batch) -> Buffers:
    ids, lengths, types = batch.input_ids, batch.lengths, batch.token_type_ids
    arrays = [_int32(lengths), _int32(ids), *([] if types is None else [_int32(types)])]
    size = _BATCH_HEAD.size + sum(array.nbytes for array in arrays)
    head = _BATCH_HEAD.pack(batch.id, len(lengths), len(ids), types is not None)
    return [_HEADER.pack(size, _BATCH) + head, *map(_bytes, arrays)]


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


def _encode_done(done: Done) -> Buffers:
    outputs = np.ascontiguousarray(done.outputs)
    head = _DONE_HEAD.pack(done.batch_id, done.started, done.finished, done.padded_tokens, *done.shape, *outputs.shape)
    return [_HEADER.pack(len(head) + outputs.nbytes, _DONE) + head, _bytes(outputs)]


def _decode_done(body: memoryview) -> Done:
    batch_id, started, finished, padded_tokens, rows, length, sequences, dim = _DONE_HEAD.unpack_from(body)
    outputs = np.frombuffer(body, np.float32, sequences * dim, _DONE_HEAD.size).reshape(sequences, dim)
    return Done(batch_id, outputs, padded_tokens, (rows, length), started, finished)


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
        connection.sendall(memoryview(b"".join(buffers))[sent:])
