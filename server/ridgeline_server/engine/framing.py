"""Messages over a byte stream: a length of 4 bytes, big-endian, then a pickle. Both ends are our own processes."""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Callable
from typing import Any, BinaryIO, cast

_HEADER = struct.Struct(">I")


def encode_frame(message: object) -> bytes:
    """The bytes of one message."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(body)) + body


def read_frame(stream: BinaryIO) -> Any:
    """The next message of a blocking stream. Raises EOFError at its end."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    (size,) = _HEADER.unpack(header)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return pickle.loads(body)


class FrameProtocol(asyncio.Protocol):
    """The event loop's end: calls `receive` with each message. What is written waits in the transport."""

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self._buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class is not registered as one

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEADER.size:
            (size,) = _HEADER.unpack_from(buffer, start)
            end = start + _HEADER.size + size
            if len(buffer) < end:
                break
            self._receive(pickle.loads(memoryview(buffer)[start + _HEADER.size : end]))
            start = end
        del buffer[:start]

    def send(self, message: object) -> None:
        """Send a message; it is lost in silence when the other end is gone."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(encode_frame(message))

    def close(self) -> None:
        """End the connection: the other end reads its end of file."""
        if self.transport is not None:
            self.transport.close()
