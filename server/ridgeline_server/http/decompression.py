"""Compressed bodies, decompressed in bounded steps: what does not fit is never allocated."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from ridgeline_server.http.budget import ByteBudget
from ridgeline_server.http.errors import ClientGoneError, RefusedError, quote
from ridgeline_server.http.exchange import Exchange, too_large

# Output of one step: a fraction of a millisecond. The first few are taken on the event loop, the others off it.
STEP_BYTES = 128 * 1024
_MOST_ON_LOOP_BYTES = 512 * 1024
# A gzip file may be several in a row; block-wise compressors make one for each 64 KB.
_MOST_MEMBERS = 4096
_ACCEPTED = [(b"accept-encoding", b"gzip, deflate")]
# zlib's window, and which envelope is around the stream.
_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_IDENTITY = (b"", b"identity")


def content_encoding(exchange: Exchange) -> bytes | None:
    """The encoding of the request's body, None = none. Raises: RefusedError 415 for one that is not supported."""
    given = exchange.given.get(b"content-encoding")
    if given is None:
        return None
    encoding = given.strip().lower()
    lines = sum(name == b"content-encoding" for name, _ in exchange.scope["headers"])
    if lines > 1 or b"," in encoding:
        raise RefusedError(
            415, "the body has several content encodings; send it with one of gzip and deflate, or without", _ACCEPTED
        )
    if encoding in _IDENTITY:
        return None
    if encoding not in _WINDOWS:
        named = quote(encoding.decode("latin-1"))
        raise RefusedError(
            415, f"the body has the content encoding {named}; send it as gzip or deflate, or as it is", _ACCEPTED
        )
    return encoding


async def read_compressed(exchange: Exchange, encoding: bytes, max_bytes: int, budget: ByteBudget) -> bytes:
    """The whole body, decompressed as it arrives; the budget holds what it was decompressed to.

    Raises: RefusedError 413 as soon as it is over `max_bytes`, 400 when it is not what it says or ends too
    early, OverloadedError when the budget has no room, ClientGoneError
    """
    stream = _Stream(encoding)
    chunks: list[bytes] = []
    size = received = 0
    is_more = True
    while is_more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        is_more = message.get("more_body", False)
        data = message.get("body", b"")
        received += len(data)
        if received > max_bytes:
            raise too_large(max_bytes)
        has_more = bool(data)
        while has_more:
            most = min(STEP_BYTES, max_bytes - size + 1)
            if size < _MOST_ON_LOOP_BYTES:
                part, data = stream.step(data, most)
            else:
                part, data = await asyncio.to_thread(stream.step, data, most)
            size += len(part)
            exchange.hold(size, max_bytes, budget)
            chunks.append(part)
            # A step that gave as much as it might has perhaps more to give, though it took all data.
            has_more = bool(data) or (len(part) == most and not stream.is_whole)
    if not stream.is_whole:
        raise RefusedError(400, f"the body ends before its {encoding.decode()} stream does; send the whole stream")
    exchange.is_read()
    return b"".join(chunks)


class _Stream:
    """A decompressor, and for gzip those of the files behind the first."""

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._members = 1
        self._zlib: Any = zlib.decompressobj(_WINDOWS[encoding])

    @property
    def is_whole(self) -> bool:
        return bool(self._zlib.eof)

    def step(self, data: bytes, most: int) -> tuple[bytes, bytes]:
        """Decompress at most so many bytes: them, and what of the data is left. Raises: RefusedError."""
        if self._zlib.eof:
            self._members += 1
            if self._encoding == b"deflate" or self._members > _MOST_MEMBERS:
                raise self._garbage("there are bytes behind its end")
            self._zlib = zlib.decompressobj(_WINDOWS[self._encoding])
        try:
            part: bytes = self._zlib.decompress(data, most)
        except zlib.error as error:
            raise self._garbage(str(error)) from None
        return part, self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail

    def _garbage(self, why: str) -> RefusedError:
        return RefusedError(
            400,
            f"the body is no {self._encoding.decode()} stream ({why}); send what Content-Encoding says, or drop it",
        )
