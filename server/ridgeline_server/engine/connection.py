"""The event loop's end of a connection to a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from ridgeline_server.engine.framing import HEADER_BYTES, FramingError, decode, encode, read_header


class FrameProtocol(asyncio.Protocol):
    """Sends and receives messages. What is written waits in the transport.

    receive:  called with each message
    distrust: called once with what is wrong, when something else was received; nothing is received after that
    ended:    set when the connection is gone
    """

    def __init__(self, receive: Callable[[Any], None], distrust: Callable[[str], None]) -> None:
        self._receive = receive
        self._distrust = distrust
        self._chunks: list[bytes] = []
        self._missing_bytes = 0
        self._is_trusted = True
        self._transport: asyncio.Transport | None = None
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not registered as one

    def connection_lost(self, error: Exception | None) -> None:
        self._chunks.clear()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        if not self._is_trusted:
            return
        self._missing_bytes -= len(data)
        if self._chunks:
            self._chunks.append(data)
            if self._missing_bytes > 0:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        try:
            self._take(data)
        except FramingError as error:
            self._is_trusted = False
            self._distrust(str(error))

    def send(self, message: object) -> None:
        """Send a message; it is lost in silence when the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(encode(message))

    def close(self) -> None:
        """End the connection: the other end reads its end of file."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, data: bytes) -> None:
        """Receive the whole frames of `data`, and keep the rest until the frame that it begins is whole."""
        view, start, needed = memoryview(data), 0, HEADER_BYTES
        while len(data) - start >= HEADER_BYTES:
            size, kind = read_header(data, start)
            end = start + HEADER_BYTES + size
            if len(data) < end:
                needed = HEADER_BYTES + size
                break
            self._receive(decode(kind, view[start + HEADER_BYTES : end]))
            start = end
        if start < len(data):
            self._chunks.append(data[start:])
        self._missing_bytes = needed - (len(data) - start)
