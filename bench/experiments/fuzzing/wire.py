"""A connection that sends whatever bytes it is given, and reads replies by the letter of HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from dataclasses import dataclass

MOST_HEAD_BYTES = 256 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)(?: [\t\x20-\x7e]*)?").fullmatch
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*").fullmatch
_RESET = struct.pack("ii", 1, 0)


class ReplyError(Exception):
    """What came back is no HTTP reply; the message says why."""


class NoReplyError(Exception):
    """The connection was closed before a reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """headers: by lower-case name, of a name that is given twice the last"""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Connection:
    """A TCP connection as an asynchronous context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(*self._address, limit=MOST_HEAD_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Write; a server that closed the connection meanwhile is no error: its reply may be there."""
        self._writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def finish(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        """Close so that the server's next write fails."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def reply(self, method: str = "POST") -> Reply:
        """The next final reply. Raises ReplyError, NoReplyError."""
        while True:
            status, headers = await self._head()
            if status >= 200:
                break
        if method == "HEAD" or status in (204, 304):
            return Reply(status, headers, b"")
        try:
            return Reply(status, headers, await self._body(headers))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ReplyError(f"the body of a {status} ends early: {error!r}") from None

    async def is_closed(self) -> bool:
        """Wait for the server to close, and tell whether it sent nothing more. Raises ReplyError for more."""
        try:
            more = await self._reader.read(200)
        except ConnectionError:
            return True
        if more:
            raise ReplyError(f"bytes behind the last reply: {more[:80]!r}")
        return True

    async def _head(self) -> tuple[int, dict[bytes, bytes]]:
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise ReplyError(f"a head ends early: {error.partial[:80]!r}") from None
            raise NoReplyError from None
        except ConnectionError:
            raise NoReplyError from None
        except asyncio.LimitOverrunError:
            raise ReplyError("a head does not end") from None
        first, *lines = head[:-4].split(b"\r\n")
        line = _STATUS_LINE(first)
        if line is None:
            raise ReplyError(f"no status line: {first[:80]!r}")
        headers = {}
        for text in lines:
            field = _FIELD(text)
            if field is None:
                raise ReplyError(f"no header field: {text[:80]!r}")
            headers[field[1].lower()] = field[2]
        return int(line[1]), headers

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        length = headers.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                raise ReplyError(f"the content-length is {length[:40]!r}")
            return await self._reader.readexactly(int(length))
        if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
            return await self._reader.read()
        parts: list[bytes] = []
        while True:
            size = int((await self._reader.readuntil(b"\r\n"))[:-2].split(b";")[0], 16)
            part = await self._reader.readexactly(size + 2)
            if not size:
                return b"".join(parts)
            parts.append(part[:-2])
