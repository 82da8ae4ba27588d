"""One request and its answer, as the handlers of inference routes see them."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ridgeline_server.errors import InvalidInputError, RequestError
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import ClientGoneError, RefusedError, quote
from ridgeline_server.http.waiting import Receive, WaitingRoom
from ridgeline_server.report.timings import server_timing
from ridgeline_server.request import Instants, Request, Result

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/@+=-]{1,128}").fullmatch
_ID_PREFIX = secrets.token_hex(6)
_ids = itertools.count(1)


class Exchange:
    """A request on its way in, an answer on its way out.

    received:   instant at which the request was routed
    read:       instant at which its body was there
    request_id: the client's `X-Request-Id` when it is sane, else a new one
    params:     what the route's path captured
    result:     the engine's answer, once it is there
    instants:   the boundaries that the engine saw the request cross
    """

    __slots__ = (
        "_room",
        "content_encoding",
        "content_length",
        "content_type",
        "instants",
        "params",
        "read",
        "receive",
        "received",
        "request_id",
        "result",
        "timeout",
    )

    def __init__(self, scope: Scope, receive: Receive, room: WaitingRoom) -> None:
        self.received = self.read = time.monotonic()
        self._room = room
        self.receive = receive
        self.params: dict[str, str] = {}
        self.result: Result | None = None
        self.instants: Instants | None = None
        self.content_length: bytes | None = None
        self.content_type = self.content_encoding = b""
        self.timeout: bytes | None = None
        given_id = b""
        for name, value in scope["headers"]:
            if name == b"content-length":
                self.content_length = value
            elif name == b"content-type":
                self.content_type = value
            elif name == b"content-encoding":
                self.content_encoding = value.strip().lower()
            elif name == b"x-request-id":
                given_id = value
            elif name == b"x-request-timeout":
                self.timeout = value
        self.request_id = given_id if _SANE_ID(given_id) else f"{_ID_PREFIX}-{next(_ids):x}".encode()

    def headers(self, now: float) -> Headers:
        """The headers that every answer carries."""
        if self.instants is None:
            timing = f"total;dur={(now - self.received) * 1e3:.3f}"
        else:
            timing = server_timing(self.instants, now, self.received)
        headers = [(b"server-timing", timing.encode()), (b"x-request-id", self.request_id)]
        if self.result is not None and self.result.truncated:
            headers.append((b"x-truncated", b"%d" % self.result.truncated))
        return headers

    def timeout_s(self, default: float) -> float:
        """Seconds until the answer is of no use, as `X-Request-Timeout` says.

        Raises: InvalidInputError
        """
        if self.timeout is None:
            return default
        try:
            seconds = float(self.timeout)
        except ValueError:
            seconds = math.nan
        if not 0.0 < seconds < math.inf:
            given = quote(self.timeout.decode("latin-1"))
            raise InvalidInputError(
                f"X-Request-Timeout is {given}; give a number of seconds above 0, such as 2.5, or leave it out",
                "X-Request-Timeout",
            )
        return seconds

    async def body(self, max_bytes: int, timeout_s: float) -> bytes:
        """The whole body, which has `timeout_s` from the request's arrival to be there.

        Raises: RefusedError 413 as soon as more than `max_bytes` were sent, 408 when it is late, ClientGoneError
        """
        try:
            async with asyncio.timeout_at(self.received + timeout_s):
                body = await self._read_body(max_bytes)
        except TimeoutError:
            raise RefusedError(408, f"the body was not there after {timeout_s:g} s; send it faster") from None
        self.read = time.monotonic()
        return body

    async def _read_body(self, max_bytes: int) -> bytes:
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if message.get("more_body", False):
            chunks = [body]
            size = len(body)
            while message.get("more_body", False) and size <= max_bytes:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                chunks.append(chunk)
            body = b"".join(chunks)
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body

    async def submit(self, engine: Engine, request: Request) -> Result:
        """Have the engine answer; give up when the client leaves or the deadline passed unanswered.

        Raises: a RequestError, ClientGoneError
        """
        waiter = self._room.enter(self.receive, request.deadline)
        try:
            result = await engine.submit(request)
        except RequestError as error:
            self.instants = error.instants
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise RuntimeError("the engine dropped a request that nobody cancelled. This is a bug.") from None
            if waiter.reason is None:
                raise
            task.uncancel()
            raise waiter.reason from None
        finally:
            self._room.leave(waiter)
        self.result = result
        self.instants = result.instants
        return result


def too_large(max_bytes: int) -> RefusedError:
    """The refusal of a body over the limit."""
    return RefusedError(
        413, f"the body is larger than the allowed {max_bytes} bytes; send fewer or shorter inputs per request"
    )
