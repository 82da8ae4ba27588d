"""What each call passes on its way in and out: keys, bounds, every failure's status, and what is noted of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import (
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.http.asking import beside_loop
from ridgeline_server.http.errors import retry_after, shorten
from ridgeline_server.http.ledger import Ledger
from ridgeline_server.http.pace import make_paces
from ridgeline_server.report.metrics import Metrics
from ridgeline_server.report.timings import phases
from ridgeline_server.rpc.intake import Intake
from ridgeline_server.rpc.visits import Visit, entry_of, trace
from ridgeline_server.security.key_ring import Caller, KeyRing

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Tracing

log = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"


class UnauthenticatedError(RequestError):
    """A call has no key, or one that nobody has."""


_CODES: tuple[tuple[type[RequestError], grpc.StatusCode], ...] = (
    (UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (InvalidInputError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModelError, grpc.StatusCode.NOT_FOUND),
    (OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (RequestError, grpc.StatusCode.INTERNAL),
)
# The statuses of HTTP that metrics count calls under.
_STATUSES = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Refusals that wait for their turn at once: each holds one of the server's calls.
_MOST_HELD = 256
# Clients whose time is over hang up by their own clock, before it is over here.
_SKEW_S = 0.1
Call = Callable[[Any, Any, Visit], Awaitable[Any]]


class Entrance:
    """Lets calls in, and sees to it that every failure is a status with a sentence."""

    def __init__(
        self,
        config: ServerConfig,
        metrics: Metrics,
        keys: KeyRing | None = None,
        ledger: Ledger | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """keys: those that open it, None = it is open; ledger: takes an entry for each call; tracing: takes spans."""
        self._metrics = metrics
        self._keys = keys
        self._ledger = ledger
        self._tracing = tracing
        self._intake = Intake(config.max_queue_bytes, config.max_body_bytes)
        self._paces = make_paces(_MOST_HELD)

    def guard(self, name: str, call: Call, kind: Any) -> Callable[[Any, Any], Awaitable[Any]]:
        """The method behind the entrance. kind: of its message"""
        route = f"/{SERVICE}/{name}"

        async def guarded(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            visit = Visit(context, route)
            context.set_trailing_metadata((("x-request-id", visit.request_id),))
            try:
                self._let_in(visit)
                async with self._intake.message(context) as message:
                    answer = await call(_parsed(kind, message), context, visit)
                written = await beside_loop(visit.size, answer.SerializeToString)
                visit.status, visit.code = 200, grpc.StatusCode.OK
                return written
            except RequestError as error:
                await self._refuse(visit, error)
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                left = context.time_remaining()
                visit.status = 499 if left is None or left > _SKEW_S else 504
                raise
            except Exception:
                visit.code = grpc.StatusCode.INTERNAL
                log.exception("%s failed", route)
                await _abort(context, visit.code, "internal error; the server's log has more")
            finally:
                self._note(visit, time.monotonic(), is_inference=name == "ModelInfer")

        return guarded

    def _let_in(self, visit: Visit) -> None:
        """Find whose key a call brings, where one is needed, and count the call. Raises a RequestError."""
        if self._keys is None:
            return
        caller = visit.caller = self._caller(self._keys, visit)
        caller.allowance.enter(caller.name)
        visit.is_counted = True

    @staticmethod
    def _caller(keys: KeyRing, visit: Visit) -> Caller:
        scheme, _, value = visit.given.get("authorization", "").strip().partition(" ")
        secret = visit.given.get("x-api-key", value if scheme.lower() == "bearer" else "").strip()
        caller = keys.find(secret.encode()) if secret else None
        if caller is None:
            raise UnauthenticatedError(
                "send an API key as the metadata `authorization: Bearer KEY` or `x-api-key: KEY`"
            )
        return caller

    async def _refuse(self, visit: Visit, error: RequestError) -> None:
        """End a call with the error's status; the server being full costs its key nothing."""
        visit.code = next(code for kind, code in _CODES if isinstance(error, kind))
        visit.status = _STATUSES.get(visit.code, 500)
        if error.instants is not None:
            visit.phases = phases(error.instants, time.monotonic())
        if isinstance(error, OverloadedError | UnavailableError):
            after = ("retry-after", retry_after(error.retry_after_s).decode())
            visit.context.set_trailing_metadata((("x-request-id", visit.request_id), after))
            if visit.is_counted and visit.caller is not None:
                visit.caller.allowance.give_back()
        pace = self._paces.get(visit.status)
        if pace is not None:
            await pace.wait()
        await _abort(visit.context, visit.code, shorten(str(error)))

    def _note(self, visit: Visit, now: float, is_inference: bool) -> None:
        """A call is over."""
        self._metrics.record_request(visit.route, visit.status, now - visit.began, model=visit.model)
        span = None
        if self._tracing is not None and is_inference:
            span = trace(self._tracing, visit, now)
        if self._ledger is not None:
            self._ledger.note(entry_of(visit, now, span))


def _parsed(kind: Any, message: bytes) -> Any:
    """A message of a kind; gRPC itself would log each that is none, and tell nothing. Raises InvalidInputError."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidInputError(f"the message of {len(message)} bytes is no {kind.DESCRIPTOR.name}") from None


async def _abort(context: Any, code: grpc.StatusCode, message: str) -> None:
    """End a call with a status. A client that is gone by now is no error of the server's, which gRPC would log."""
    try:
        await context.abort(code, message)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None
