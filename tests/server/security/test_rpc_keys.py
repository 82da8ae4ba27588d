"""gRPC has the same door: every method asks for a key, and charges it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import OverloadedError
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.report import Metrics
from ridgeline_server.security.keys import Limits
from tests.server.http_fakes import FakeEngine
from tests.server.locked import SECRET, ring

grpc = pytest.importorskip("grpc")
from ridgeline_server.rpc import open_inference_pb2 as pb  # noqa: E402
from ridgeline_server.rpc.entrance import SERVICE, Entrance  # noqa: E402
from ridgeline_server.rpc.server import RpcServer  # noqa: E402
from ridgeline_server.rpc.service import Service  # noqa: E402

METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]


async def codes(keys: Any, calls: list[tuple[str, Any, dict[str, str]]], engine: FakeEngine) -> list[str]:
    """How each call ends: the name of its status."""
    config = ServerConfig(bundles=(Path("tiny"),))
    service = Service(engine, Catalog(engine), config, Entrance(config, Metrics(), keys))
    server = RpcServer(service.handler(), config.max_body_bytes)
    await server.start("127.0.0.1", 0)
    ends = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for method, request, metadata in calls:
            call = channel.unary_unary(f"/{SERVICE}/{method}", request_serializer=lambda each: each.SerializeToString())
            try:
                await call(request, metadata=tuple(metadata.items()), timeout=20)
                ends.append("OK")
            except grpc.aio.AioRpcError as error:
                ends.append(error.code().name)
    await server.stop(0)
    return ends


async def test_every_method_refuses_without_a_key() -> None:
    assert len(METHODS) >= 6
    engine = FakeEngine()
    strangers = (
        {},
        {"x-api-key": "", "authorization": f"Bearer {SECRET}"},
        {"authorization": "Bearer wrong"},
        {"x-api-key": "wrong"},
        {"authorization": SECRET},
    )
    calls = [(name, getattr(pb, f"{name}Request")(), given) for name in METHODS for given in strangers]
    assert set(await codes(ring(), calls, engine)) == {"UNAUTHENTICATED"}
    assert not engine.seen


async def test_keys_are_taken_as_over_http_and_limited() -> None:
    live = pb.ServerLiveRequest()
    calls = [("ServerLive", live, {"authorization": f"Bearer {SECRET}"}), ("ServerLive", live, {"x-api-key": SECRET})]
    keys = ring(Limits(requests_per_minute=2))
    assert await codes(keys, [*calls, calls[0]], FakeEngine()) == ["OK", "OK", "RESOURCE_EXHAUSTED"]


async def test_what_the_server_has_no_room_for_costs_a_key_nothing() -> None:
    engine = FakeEngine()
    ask = pb.ModelInferRequest(model_name="tiny")
    ask.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    refused = ("ModelInfer", ask, {"x-api-key": SECRET})
    live = ("ServerLive", pb.ServerLiveRequest(), {"x-api-key": SECRET})
    engine.fail_with(OverloadedError("full", 1.0))
    ends = await codes(ring(Limits(requests_per_minute=2)), [refused] * 4 + [live] * 3, engine)
    assert ends == ["RESOURCE_EXHAUSTED"] * 4 + ["OK", "OK", "RESOURCE_EXHAUSTED"]


async def test_nothing_is_read_of_a_call_without_a_key() -> None:
    config = ServerConfig(bundles=(Path("tiny"),))
    engine = FakeEngine()
    service = Service(engine, Catalog(engine), config, Entrance(config, Metrics(), ring()))
    server = RpcServer(service.handler(), config.max_body_bytes)
    await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.stream_unary(f"/{SERVICE}/ModelInfer")(timeout=20)  # its message never comes
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(0)
