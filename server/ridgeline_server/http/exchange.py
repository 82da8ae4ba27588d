"""One request and its answer, as the handlers of inference routes see them."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ridgeline_server.errors import RequestError
from ridgeline_server.http.budget import ByteBudget
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import ClientGoneError, RefusedError
from ridgeline_server.http.request_ids import request_id
from ridgeline_server.http.waiting import Receive, Waiter
from ridgeline_server.report.costs import cost_timing, describe_cost
from ridgeline_server.report.history import Steps
from ridgeline_server.report.timings import phases, server_timing
from ridgeline_server.request import Priority, Request, Result
from ridgeline_server.security.key_ring import Caller

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
OCTETS = (b"content-type", b"application/octet-stream")


class Exchange(Waiter):
    """A request on its way in, an answer on its way out.

    given:      the request's headers by lower-case name; of a name that is given twice, the last
    received:   instant at which the request was routed
    read:       instant at which its body was there
    model:      name of the served model that it asks for, empty while that is not known
    held_bytes: bytes of the budget that its body holds
    params:     what the route's path captured
    priority, is_raw, wants_cost: what its headers ask for
    result:     the engine's answer, once it is there
    size:       tokens or numbers that a task's answer is made of, whichever are more
    phases:     seconds of tokenize, queue, compute, where the engine told
    finished:   instant at which the runtime ended, inf when it did not
    scope:      the request as ASGI describes it
    caller:     whose key it brought, None where no key is asked for
    also:       headers of the answer that are settled when it comes in
    text:       the beginning of its body, where the log shall have it
    """

    __slots__ = (
        "_request_id",
        "also",
        "caller",
        "finished",
        "given",
        "held_bytes",
        "is_raw",
        "model",
        "params",
        "phases",
        "priority",
        "read",
        "received",
        "result",
        "scope",
        "size",
        "text",
        "wants_cost",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(receive)
        self.received = self.read = time.monotonic()
        self.scope = scope
        self.given: dict[bytes, bytes] = dict(scope["headers"])
        self.model = ""
        self.held_bytes = 0
        self.params: dict[str, str] = {}
        self.priority = Priority.INTERACTIVE
        self.is_raw = False
        self.wants_cost = False
        self.result: Result | None = None
        self.size = 0
        self.phases: tuple[float, float, float] | None = None
        self.finished = math.inf
        self.caller: Caller | None = None
        self.also: tuple[tuple[bytes, bytes], ...] = ()
        self._request_id = b""
        self.text = b""

    @property
    def request_id(self) -> bytes:
        """The id that the client gave, where it is a sane one, else one that is made here."""
        if not self._request_id:
            self._request_id = request_id(self.given.get(b"x-request-id"))
        return self._request_id

    def headers(self, now: float) -> Headers:
        """The headers that every answer carries."""
        if self.phases is None:
            timing = b"total;dur=%.3f" % ((now - self.received) * 1e3)
        else:
            timing = server_timing(self.phases, max(now - self.finished, 0.0), self.read - self.received)
        result = self.result
        if result is not None:
            timing += cost_timing(result)
        headers = [(b"server-timing", timing), (b"x-request-id", self.request_id), *self.also]
        if result is not None and result.truncated:
            headers.append((b"x-truncated", b"%d" % result.truncated))
        if result is not None and result.cached is not None:
            headers.append((b"x-cache", b"hits=%d, misses=%d" % result.cached))
        if self.caller is not None:
            headers += self.caller.allowance.headers()
        return headers

    def cost(self) -> dict[str, object]:
        """What the answered request cost, as a body carries it."""
        assert self.result is not None and self.phases is not None, "only what was answered has a cost"
        return describe_cost(self.result, self.phases, self.read - self.received)

    def steps_s(self, now: float) -> Steps | None:
        """Seconds of receive, tokenize, queue, compute and reply, where the engine told."""
        if self.phases is None:
            return None
        return (self.read - self.received, *self.phases, max(now - self.finished, 0.0))

    async def body(self, max_bytes: int, budget: ByteBudget) -> bytes:
        """The whole body.

        Raises: RefusedError 413 as soon as more than `max_bytes` were sent, OverloadedError when the budget has no
        room for them, ClientGoneError
        """
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        size = len(body)
        if message.get("more_body", False):
            chunks = [body]
            self.hold(size, max_bytes, budget)
            while message.get("more_body", False):
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk = message.get("body", b"")
                size += len(chunk)
                self.hold(size, max_bytes, budget)
                chunks.append(chunk)
            body = b"".join(chunks)
        else:
            self.hold(size, max_bytes, budget)
        self.is_read()
        return body

    def is_read(self) -> None:
        """The body is there."""
        self.is_reading = False
        self.read = time.monotonic()

    def hold(self, size: int, max_bytes: int, budget: ByteBudget) -> None:
        """Have the budget hold what has arrived. Raises: RefusedError 413, OverloadedError"""
        if size > self.held_bytes:
            if size > max_bytes:
                raise too_large(max_bytes)
            budget.take(size - self.held_bytes)
            self.held_bytes = size

    async def submit(self, engine: Engine, request: Request) -> Result:
        """Have the engine answer. Raises: a RequestError."""
        self.model = request.model or ""
        try:
            result = await engine.submit(request)
        except RequestError as error:
            if error.instants is not None:
                self.phases = phases(error.instants, time.monotonic())
            raise
        self.result = result
        self.finished = result.instants.finished
        self.phases = phases(result.instants, self.finished)
        return result


def too_large(max_bytes: int) -> RefusedError:
    """The refusal of a body over the limit."""
    return RefusedError(
        413, f"the body is larger than the allowed {max_bytes} bytes; send fewer or shorter inputs per request"
    )
