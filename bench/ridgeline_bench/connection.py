"""One keep-alive HTTP/1.1 connection that sends ready-made bytes and looks at replies no more than it must."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import httptools

from ridgeline_bench.plan import CLOSED, EMPTY, MALFORMED, REFUSED_STATUS, RESET

if TYPE_CHECKING:
    from collections.abc import Sequence

_TOKENS = (b'"prompt_tokens":', b'"usage":{"tokens":')


class Owner(Protocol):
    """Who is told what becomes of a connection and its requests."""

    def opened(self, connection: Connection) -> None: ...

    def replied(self, connection: Connection, code: int, tokens: int, timing: bytes | None) -> None: ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Sends one request at a time; `replied` follows each, `closed` ends it.

    sent:     instant that the latency of the running request counts from
    written:  instant at which it was written
    deadline: instant at which the running request has failed
    busy:     a request is running
    reusable: the last reply left the connection open for another request
    failed:   the connection ended with an error
    is_refused: the last reply was a 429
    has_retry_after: the last reply has a Retry-After header
    """

    def __init__(self, owner: Owner) -> None:
        self.sent = self.written = 0.0
        self.deadline = 0.0
        self.busy = False
        self.reusable = True
        self.failed = False
        self.has_retry_after = False
        self.is_refused = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._timing: bytes | None = None
        self._tokens = 0
        self._has_length = False
        self._has_head = False
        self._is_complete = False
        self._keeps_alive = False

    def send(self, request: bytes, sent: float, written: float, deadline: float) -> None:
        """Write a whole request; only when the connection is open and not busy."""
        assert self._transport is not None and not self.busy
        self.sent = sent
        self.written = written
        self.deadline = deadline
        self.busy = True
        self._has_head = self._is_complete = False
        self._transport.write(request)

    def fail(self, code: int) -> None:
        """Give up the running request, if there is one, and drop the connection."""
        self.reusable = False
        self.failed = True
        if self.busy:
            self.busy = False
            self._owner.replied(self, code, 0, None)
        self.close()

    def close(self) -> None:
        """Drop the connection at once; its running request gets no `replied`."""
        self.busy = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports inherit from none of asyncio's
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail(MALFORMED)
            return
        if self._is_complete and self.busy:
            self._finish(self._keeps_alive)
        elif not self.busy:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.reusable = False
        if self.busy:
            # A reply without length ends where the connection does (RFC 9112, 6.3).
            if exc is None and self._has_head and not self._has_length:
                self._finish(False)
            else:
                self.fail(CLOSED if exc is None else RESET)
        self._owner.closed(self)

    def on_message_begin(self) -> None:
        self._chunks.clear()
        self._timing = None
        self._tokens = 0
        self._has_length = self.has_retry_after = False

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name)
        if size == 13 and name.lower() == b"server-timing":
            self._timing = value
        elif size == 11 and name.lower() == b"retry-after":
            self.has_retry_after = True
        elif size in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        elif size == 16 and name.lower() == b"x-compute-tokens":
            self._tokens = int(value) if value.isdigit() else 0

    def on_headers_complete(self) -> None:
        self._has_head = self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        # An interim reply (100, 103) is complete too, but the real one is still to come.
        self._is_complete = self._has_head
        # The parser forgets this as soon as the callback is over.
        self._keeps_alive = self._parser.should_keep_alive()

    def _finish(self, reusable: bool) -> None:
        self.busy = False
        self.reusable = reusable
        code = self._parser.get_status_code()
        self.is_refused = code == REFUSED_STATUS
        if code == 200 and not self._chunks:
            code = EMPTY
        self._owner.replied(self, code, self._tokens or prompt_tokens(self._chunks), self._timing)


def prompt_tokens(chunks: Sequence[bytes]) -> int:
    """`usage.prompt_tokens` of an OpenAI reply, or `usage.tokens` of a task's, 0 when there is neither.

    Found without parsing the embeddings.
    """
    if not chunks:
        return 0
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    name = _TOKENS[0]
    found = body.rfind(name)
    if found < 0:
        name = _TOKENS[1]
        found = body.rfind(name)
        if found < 0:
            return 0
    start = found + len(name)
    digits = body[start : start + 12].lstrip()
    end = 0
    while end < len(digits) and 48 <= digits[end] <= 57:
        end += 1
    return int(digits[:end]) if end else 0
