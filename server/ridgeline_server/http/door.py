"""In front of everything, before any parsing: keys, limits, admission, deadlines, and every failure's answer."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import ReplacedError, RequestError
from ridgeline_server.http.admission import Admission
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.connection import REPLY
from ridgeline_server.http.decompression import content_encoding, read_compressed
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import ClientGoneError, Protocol, answer
from ridgeline_server.http.exchange import (
    JSON,
    ASGIApp,
    Exchange,
    Headers,
    Message,
    Scope,
    Send,
)
from ridgeline_server.http.guard import Guard
from ridgeline_server.http.notes import Notes
from ridgeline_server.http.pace import make_paces
from ridgeline_server.http.routing import InferenceRoute, Routes, protocol_of
from ridgeline_server.http.waiting import Receive, WaitingRoom
from ridgeline_server.report import Metrics
from ridgeline_server.report.history import History

logger = logging.getLogger(__name__)

_REFUSALS = frozenset({413, 415, 429, 503})


class Door:
    """The ASGI application: answers inference routes itself, passes the others on to `app`.

    Each answer carries `Server-Timing` and `X-Request-Id`, and is counted; no exception leaves it.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: list[InferenceRoute],
        engine: Engine,
        catalog: Catalog,
        config: ServerConfig,
        metrics: Metrics,
        room: WaitingRoom,
        history: History,
        guard: Guard,
        notes: Notes | None = None,
    ) -> None:
        """notes: None where there is nothing to note of each request."""
        self.app = app
        self.room = room
        self._admission = Admission(engine, catalog, config, room)
        self._catalog = catalog
        self.budget = self._admission.budget
        self._routes = Routes(routes)
        self._metrics = metrics
        self._history = history
        self._guard = guard
        self._notes = notes
        self._paces = make_paces()

    @property
    def inference_paths(self) -> frozenset[str]:
        """Templates of the paths that the door answers itself."""
        return self._routes.paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive)
        try:
            preflight = self._guard.check(exchange, scope)
        except Exception as error:
            route = self._routes.find(scope["path"], exchange) if scope["method"] == "POST" else None
            failure = _failure(error, protocol_of(scope["path"]) if route is None else route.protocol)
            await self._turn_away(exchange, scope, send, *failure)
            return
        if preflight is not None:
            await self._turn_away(exchange, scope, send, 200, b"", preflight)
            return
        if scope["method"] == "POST":
            route = self._routes.find(scope["path"], exchange)
            if route is not None:
                await self._infer(route, exchange, scope, send)
                return
        await self._pass_on(exchange, scope, send)

    async def _turn_away(
        self, exchange: Exchange, scope: Scope, send: Send, status: int, body: bytes, headers: Headers
    ) -> None:
        """Answer what the guard did not let in, whatever its path is."""
        await self._keep_pace(exchange, status)
        now = time.monotonic()
        try:
            await _send(scope, send, status, body, headers + exchange.headers(now))
        except (OSError, RuntimeError):
            status = 499
        if self._notes is not None:  # a stranger could have as many requests traced as it likes
            self._notes.note(exchange, "other", status, now, is_traced=False)
        self._metrics.record_request("other", status, now - exchange.received)

    async def _keep_pace(self, exchange: Exchange, status: int) -> None:
        """Let a refusal wait for its turn, and hold nothing meanwhile."""
        pace = self._paces.get(status)
        if pace is not None and not self.room.is_closed:
            self._give_back(exchange)
            await pace.wait(exchange)

    def _give_back(self, exchange: Exchange) -> None:
        if exchange.held_bytes:
            self.budget.give_back(exchange.held_bytes)
            exchange.held_bytes = 0

    def _note(self, exchange: Exchange, path: str, status: int, now: float) -> None:
        if self._notes is not None:
            self._notes.note(exchange, path, status, now)

    async def _infer(self, route: InferenceRoute, exchange: Exchange, scope: Scope, send: Send) -> None:
        status = 200
        try:
            try:
                body, headers = await self._answer(route, exchange)
            except ClientGoneError:
                _settle(exchange, 499)
                now = time.monotonic()
                self._note(exchange, route.path, 499, now)
                self._metrics.record_request(route.path, 499, now - exchange.received, model=exchange.model)
                self._history.record_request(now, 499, now - exchange.received)
                return
            except Exception as error:
                status, body, headers = _failure(error, route.protocol)
            _settle(exchange, status)
            await self._keep_pace(exchange, status)
            now = time.monotonic()
            try:
                await _send(scope, send, status, body, headers + exchange.headers(now))
            except (OSError, RuntimeError):  # uvloop's word for a transport that the client has closed
                status = 499
        finally:
            self._give_back(exchange)
        self._note(exchange, route.path, status, now)
        result = exchange.result
        if result is None:
            self._metrics.record_request(route.path, status, now - exchange.received, model=exchange.model)
            self._history.record_request(now, status, now - exchange.received)
        else:
            steps = exchange.steps_s(now)
            self._metrics.record_request(route.path, status, now - exchange.received, steps, exchange.model)
            self._history.record_request(now, status, now - exchange.received, steps)
            if result.truncated:
                self._metrics.record_truncated(result.model, result.truncated)

    async def _answer(self, route: InferenceRoute, exchange: Exchange) -> tuple[bytes, Headers]:
        self._admission.admit(exchange, route.is_model_in_path, route.check_media)
        encoding = content_encoding(exchange) if b"content-encoding" in exchange.given else None
        self.room.enter(exchange)
        try:
            most = self._admission.max_body_bytes
            if encoding is None:
                body = await exchange.body(most, self.budget)
            else:
                body = await read_compressed(exchange, encoding, most, self.budget)
            if self._notes is not None:
                self._notes.keep_text(exchange, body)
            try:
                return await route.handler(exchange, body)
            except ReplacedError:
                # what was read of the body may not hold for the model's new version
                self._catalog.forget()
                return await route.handler(exchange, body)
        except asyncio.CancelledError:
            raise exchange.why_cancelled() from None
        finally:
            self.room.leave(exchange)

    async def _pass_on(self, exchange: Exchange, scope: Scope, send: Send) -> None:
        status = 0
        is_answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, is_answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *exchange.headers(time.monotonic())]
            else:
                is_answered = not message.get("more_body", False)
            await send(message)

        if scope["method"] == "HEAD":  # the HTTP server leaves the body out
            scope = {**scope, "method": "GET"}
        try:
            self._admission.checked_length(exchange)
            await self.app(scope, exchange.receive, send_with_headers)
        except Exception as error:
            if status and not is_answered:
                raise
            # FastAPI answers unexpected errors itself, then raises them again for the log.
            failed, body, headers = _failure(error, protocol_of(scope["path"]))
            if not status:
                status = failed
                await _send(exchange.scope, send, status, body, headers + exchange.headers(time.monotonic()))
        route: Any = scope.get("route")
        path = getattr(route, "path", "other") if status not in (404, 405) else "other"
        now = time.monotonic()
        self._note(exchange, path, status, now)
        self._metrics.record_request(path, status, now - exchange.received)


def _settle(exchange: Exchange, status: int) -> None:
    """Charge the caller what was computed, whoever got it; what was refused costs nothing."""
    if exchange.caller is not None:
        if exchange.result is not None:
            exchange.caller.allowance.charge(sum(exchange.result.tokens))
        elif status in _REFUSALS:
            exchange.caller.allowance.give_back()


def _failure(error: Exception, protocol: Protocol) -> tuple[int, bytes, Headers]:
    if not isinstance(error, RequestError):
        logger.error("a request failed unexpectedly", exc_info=error)
    status, body, headers = answer(error, protocol)
    return status, body, [JSON, *headers]


async def _send(scope: Scope, send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    if scope["method"] == "HEAD":
        body = b""
    if REPLY in scope.get("extensions", ()):
        await send({"type": REPLY, "status": status, "headers": headers, "body": body})
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
