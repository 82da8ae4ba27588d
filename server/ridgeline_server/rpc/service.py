"""The service itself: the protocol's calls on the engine."""

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
    ReplacedError,
    RequestError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.http.asking import beside_loop, size_of
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import retry_after, shorten
from ridgeline_server.http.oip import metadata
from ridgeline_server.http.oip.inference import prepare
from ridgeline_server.report.metrics import Metrics
from ridgeline_server.report.timings import phases
from ridgeline_server.request import Request
from ridgeline_server.rpc import open_inference_pb2 as pb
from ridgeline_server.rpc.intake import Intake
from ridgeline_server.rpc.messages import asked_of, response_of
from ridgeline_server.rpc.visits import Visit, trace
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
# Clients whose time is over hang up by their own clock, before it is over here.
_SKEW_S = 0.1
Call = Callable[[Any, Any, Visit], Awaitable[Any]]


class Service:
    """Answers calls; every failure is a status with a sentence."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        config: ServerConfig,
        metrics: Metrics,
        keys: KeyRing | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """keys: those that open it, None = it is open; tracing: takes the spans of calls."""
        self._tracing = tracing
        self._keys = keys
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._metrics = metrics
        self._intake = Intake(config.max_queue_bytes, config.max_body_bytes)

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        calls: dict[str, tuple[Call, Any]] = {
            "ServerLive": (self._server_live, pb.ServerLiveRequest),
            "ServerReady": (self._server_ready, pb.ServerReadyRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, pb.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, pb.ModelMetadataRequest),
            "ModelInfer": (self._infer, pb.ModelInferRequest),
        }
        methods = {
            # On the line a stream of one message is as one message, but it is read when we are ready for it.
            name: grpc.stream_unary_rpc_method_handler(self._guarded(name, call, kind))
            for name, (call, kind) in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, name: str, call: Call, kind: Any) -> Callable[[Any, Any], Awaitable[Any]]:
        """A call whose failures are statuses, and that is counted. kind: of its message"""
        route = f"/{SERVICE}/{name}"

        async def guarded(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began, status = time.monotonic(), 500
            code = grpc.StatusCode.CANCELLED
            visit = Visit()
            try:
                visit.caller = self._let_in(context)
                async with self._intake.message(context) as message:
                    answer = await call(_parsed(kind, message), context, visit)
                written = await beside_loop(visit.size, answer.SerializeToString)
                status, code = 200, grpc.StatusCode.OK
                return written
            except RequestError as error:
                code = next(code for kind, code in _CODES if isinstance(error, kind))
                status = _STATUSES.get(code, 500)
                if error.instants is not None:
                    visit.phases = phases(error.instants, time.monotonic())
                if isinstance(error, OverloadedError | UnavailableError):
                    context.set_trailing_metadata((("retry-after", retry_after(error.retry_after_s).decode()),))
                await _refuse(context, code, shorten(str(error)))
            except grpc.aio.AbortError:
                raise
            except asyncio.CancelledError:
                left = context.time_remaining()
                status = 499 if left is None or left > _SKEW_S else 504
                raise
            except Exception:
                code = grpc.StatusCode.INTERNAL
                log.exception("%s failed", route)
                await _refuse(context, code, "internal error; the server's log has more")
            finally:
                now = time.monotonic()
                self._metrics.record_request(route, status, now - began, model=visit.model)
                if self._tracing is not None and name == "ModelInfer":
                    trace(self._tracing, route[1:], context, visit, code, began, now)

        return guarded

    def _let_in(self, context: Any) -> Caller | None:
        """Whose key a call brings, None where none is needed. Raises a RequestError."""
        if self._keys is None:
            return None
        given = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        scheme, _, value = given.get("authorization", "").strip().partition(" ")
        secret = given.get("x-api-key", value if scheme.lower() == "bearer" else "")
        caller = self._keys.find(secret.strip().encode()) if secret.strip() else None
        if caller is None:
            raise UnauthenticatedError(
                "send an API key as the metadata `authorization: Bearer KEY` or `x-api-key: KEY`"
            )
        caller.allowance.enter(caller.name)
        return caller

    async def _server_live(self, request: Any, context: Any, visit: Visit) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: Any, context: Any, visit: Visit) -> Any:
        return pb.ServerReadyResponse(ready=self._engine.is_ready())

    async def _model_ready(self, request: Any, context: Any, visit: Visit) -> Any:
        known = self._find(request.name, request.version)
        ready = any(info.ready_replicas for info in self._engine.models() if info.name == known.name)
        return pb.ModelReadyResponse(ready=ready)

    async def _server_metadata(self, request: Any, context: Any, visit: Visit) -> Any:
        return pb.ServerMetadataResponse(**metadata.server_metadata())

    async def _model_metadata(self, request: Any, context: Any, visit: Visit) -> Any:
        return pb.ModelMetadataResponse(**metadata.model_metadata(self._find(request.name, request.version)))

    async def _infer(self, request: Any, context: Any, visit: Visit) -> Any:
        received = time.monotonic()
        try:
            return await self._answer(request, context, visit, received)
        except ReplacedError:
            self._catalog.forget()
            return await self._answer(request, context, visit, received)  # read again, for the new version

    async def _answer(self, request: Any, context: Any, visit: Visit, received: float) -> Any:
        model = self._find(request.model_name, request.model_version)
        visit.model = model.name
        seconds = self._engine.retry_after(model.name)
        if seconds is not None:
            raise OverloadedError("the queue is full; try again after the seconds in retry-after", seconds)
        wanted = asked_of(request, self._config.max_client_batch_size)
        work = prepare(model, wanted, self._config.max_answer_bytes)
        left = context.time_remaining()
        allowed = self._config.request_timeout_s if left is None else min(left, self._config.request_timeout_s)
        asked = Request(
            model.name,
            work.inputs,
            work.truncate,
            received,
            received + allowed,
            work.normalize,
            reading=work.reading,
            readout=work.readout,
            version=model.version,
        )
        result = visit.result = await self._engine.submit(asked)
        visit.phases = phases(result.instants, result.instants.finished)
        if visit.caller is not None:
            visit.caller.allowance.charge(sum(result.tokens))
        visit.size = size_of(work, result)
        outputs = await beside_loop(visit.size, work.finish, result)
        version = metadata.version_of(model)
        return await beside_loop(visit.size, response_of, model.name, version, request.id, outputs)

    def _find(self, name: str, version: str) -> Any:
        model = self._catalog.find(name or None)
        metadata.check_version(model, version)
        return model


def _parsed(kind: Any, message: bytes) -> Any:
    """A message of a kind; gRPC itself would log each that is none, and tell nothing. Raises InvalidInputError."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidInputError(f"the message of {len(message)} bytes is no {kind.DESCRIPTOR.name}") from None


async def _refuse(context: Any, code: grpc.StatusCode, message: str) -> None:
    """End a call with a status. A client that is gone by now is no error of the server's, which gRPC would log."""
    try:
        await context.abort(code, message)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None
