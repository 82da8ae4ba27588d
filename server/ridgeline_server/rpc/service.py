"""The service itself: the protocol's calls on the engine."""

from __future__ import annotations

import time
from typing import Any

import grpc

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import OverloadedError, ReplacedError
from ridgeline_server.http.asking import beside_loop, size_of
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.oip import metadata
from ridgeline_server.http.oip.inference import prepare
from ridgeline_server.report.timings import phases
from ridgeline_server.request import Request
from ridgeline_server.rpc import open_inference_pb2 as pb
from ridgeline_server.rpc.entrance import SERVICE, Call, Entrance
from ridgeline_server.rpc.messages import asked_of, response_of
from ridgeline_server.rpc.visits import Visit


class Service:
    """Answers calls that have come in by the entrance."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig, entrance: Entrance) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._entrance = entrance

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
            name: grpc.stream_unary_rpc_method_handler(self._entrance.guard(name, call, kind))
            for name, (call, kind) in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

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
