"""uvicorn's connection with what this server needs beside it: whole replies at once, and bounds on what clients send.

A request that is refused before its body is read leaves that body in the connection. It is read and thrown away, so
that the connection serves the next request. One that is too long for that ends the connection, but only after the
client had time to read its refusal: closing at once would make the kernel reset the connection, and lose it.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Sized
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# The ASGI extension: one message with status, headers and body instead of two. Its sender vouches for the headers.
REPLY = "ridgeline.reply"
_EXTENSIONS: dict[str, dict[object, object]] = {REPLY: {}}
# Bytes of an unread body that are thrown away to keep its connection.
MOST_DISCARDED_BYTES = 64 * 1024 * 1024
MOST_HEAD_BYTES = 64 * 1024
# How long a client may take to send a head that it has begun.
HEAD_S = 10.0
# Requests that may wait behind the first of a connection.
MOST_PIPELINED = 64
# How long a closing connection waits for its client to read the reply.
LINGER_S = 2.0


_LATE = b"the head of the request was not there in time; send it faster"
_LATE_HEAD = b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
    STATUS_LINE[408],
    len(_LATE),
    _LATE,
)


class _Trailers(list[tuple[bytes, bytes]]):
    """Where header fields go that come behind a body: nowhere, for they must not change a request that is checked."""

    def append(self, field: tuple[bytes, bytes]) -> None:
        """Forget the field."""


_TRAILERS = _Trailers()


class Flow(FlowControl):
    """Reads no further while requests wait behind the first, whoever asks for more of the first one's body.

    pipeline: the requests that wait
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on, if nothing that was read waits."""
        if not self._pipeline:
            super().resume_reading()


class Cycle(RequestResponseCycle):
    """One request on a connection, and its reply."""

    async def send(self, message: Any) -> None:
        """As ASGI says, and the extension's message beside it."""
        if message["type"] != REPLY:
            await super().send(message)
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.response_complete:
            return
        if self.more_body and (self.waiting_for_100_continue or self._is_long()):
            self.keep_alive = False
        content = [STATUS_LINE[message["status"]]]
        for name, value in self.default_headers:
            content += (name, b": ", value, b"\r\n")
        for name, value in message["headers"]:
            content += (name, b": ", value, b"\r\n")
        content += (b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n", message["body"])
        self.response_started = self.response_complete = True
        self.transport.write(b"".join(content))
        self.message_event.set()
        if not self.keep_alive and not self.more_body:
            self.transport.close()
        self.on_response()

    def _is_long(self) -> bool:
        """Whether the body that the client declared is too long to be thrown away."""
        length = dict(self.scope["headers"]).get(b"content-length", b"0")
        return not length.isdigit() or len(length) > 18 or int(length) > MOST_DISCARDED_BYTES


class Connection(HttpToolsProtocol):
    """A client's connection.

    Unlike uvicorn's it has no timer of its own: `close_if_idle`, called now and then, ends it, also when its client
    never sends a whole request. Bodies have a deadline in the waiting room.

    _quiet_bytes: received since the last part of a body or the end of a request: heads, and what chunks are framed in
    _head_since:  instant at which a head began that did not come at once
    """

    _idle_since = 0.0
    _head_since = 0.0
    _stalled_since = 0.0
    _quiet_bytes = 0
    _has_progress = False
    _discarded_bytes = 0
    _is_lingering = False
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, unless too many are."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            transport.abort()
        self.flow = Flow(transport, self.pipeline)
        self._idle_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: the request that is worked on learns it, those behind it are forgotten."""
        super().connection_lost(exc)
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, unless nothing more is wanted of it."""
        if self._is_lingering:
            return
        cycle = self.cycle
        self._has_progress = False
        self._parse(data)
        if self.cycle is cycle and not self._has_progress:
            self._quiet_bytes += len(data)
            if self._quiet_bytes > MOST_HEAD_BYTES:
                self.transport.abort()
            if not self._head_since and self.headers is not None and self.headers is not _TRAILERS:
                self._head_since = self.loop.time()

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes the body for the other protocol's: without the wish for one it is a body again.
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            except httptools.HttpParserError:
                if not self.transport.is_closing():
                    self.send_400_response("Invalid HTTP request received.")
                return

    def _head_without_upgrade(self) -> bytes:
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                wishes = [each.strip() for each in value.split(b",")]
                value = b", ".join(each for each in wishes if each.lower() != b"upgrade")
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        return b"".join((*head, b"\r\n"))

    def on_headers_complete(self) -> None:
        """Start on the request, or queue it behind the one before it."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserInvalidMethodError("CONNECT is for proxies")
            return
        self._quiet_bytes = self._discarded_bytes = 0
        self._head_since = 0.0
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        version = self.parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["extensions"] = _EXTENSIONS
        self.headers = _TRAILERS
        before = self.cycle
        self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start(self.cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            if len(self.pipeline) > MOST_PIPELINED:
                self.transport.abort()
                raise httptools.HttpParserError("too many requests wait behind the first")

    def _start(self, cycle: RequestResponseCycle) -> None:
        self._running = cycle
        self._start_asgi_task(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body for the application, or throw it away when the reply is already sent."""
        cycle = self.cycle
        self._has_progress = True
        self._quiet_bytes = 0
        if cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > MOST_DISCARDED_BYTES:
                self.transport.abort()
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The body is whole."""
        if self.parser.should_upgrade():
            return
        self._has_progress = True
        self._quiet_bytes = 0
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with the next request, or see a client off that has not finished its own."""
        self._idle_since = self.loop.time()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        following = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if following is not None:
            self._start(following[0])
        elif not self.cycle.keep_alive:
            self._is_lingering = True
            if self.transport.can_write_eof():  # TLS cannot end one direction alone
                self.transport.write_eof()
            self.loop.call_later(LINGER_S, self.transport.abort)

    def pause_writing(self) -> None:
        """The client does not read its replies as fast as they come."""
        super().pause_writing()
        self._stalled_since = self.loop.time()

    def close_if_idle(self, longest_s: float, head_s: float = HEAD_S) -> None:
        """End the connection of a client that takes too long.

        longest_s: for its next request, and for reading its replies
        head_s:    for the rest of a head
        """
        now = self.loop.time()
        if self.flow.write_paused:
            if now - self._stalled_since > longest_s:
                self.transport.abort()
        elif self.cycle is not None and not self.cycle.response_complete:
            return
        elif self._head_since and now - max(self._head_since, self._idle_since) > head_s:
            if self.transport.is_closing():
                self.transport.abort()
            else:
                self.transport.write(_LATE_HEAD)
                self.transport.close()
        elif now - self._idle_since > longest_s:
            self.transport.abort()
