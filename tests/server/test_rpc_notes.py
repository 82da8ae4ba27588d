"""What is noted of calls over gRPC: the same as of requests over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.ledger import make_ledger
from ridgeline_server.report import Metrics
from ridgeline_server.request import Request
from tests.server.http_fakes import FakeEngine
from tests.server.locked import SECRET, ring

grpc = pytest.importorskip("grpc")
from ridgeline_server.rpc import open_inference_pb2 as pb  # noqa: E402
from ridgeline_server.rpc.entrance import SERVICE, Entrance  # noqa: E402
from ridgeline_server.rpc.server import RpcServer  # noqa: E402
from ridgeline_server.rpc.service import Service  # noqa: E402
from ridgeline_server.rpc.visits import Visit  # noqa: E402

KEY = ("x-api-key", SECRET)
TEXT = "what nobody else may read"


class Recorder:
    """Takes the lines that a log would have."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def request(self, fields: dict[str, Any]) -> None:
        self.lines.append(fields)


class Peer:
    """Of a call's context where it comes from."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


def asking(model: str = "tiny") -> Any:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(TEXT.encode())
    return request


class Noted:
    """A server of gRPC whose notes are kept."""

    def __init__(self, engine: FakeEngine | None = None) -> None:
        self.log, self.metrics = Recorder(), Metrics()
        config = ServerConfig(bundles=(Path("tiny"),))
        log: Any = self.log
        ledger = make_ledger(self.metrics, True, log)
        engine = engine or FakeEngine()
        service = Service(engine, Catalog(engine), config, Entrance(config, self.metrics, ring(), ledger))
        self._server = RpcServer(service.handler(), config.max_body_bytes)

    async def ask(self, request: Any, *metadata: tuple[str, str], timeout: float = 20) -> dict[str, str]:
        """The metadata behind the answer to `ModelInfer`, and the name of its status."""
        if not self._server.port:
            await self._server.start("127.0.0.1", 0)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._server.port}") as channel:
            stub = channel.unary_unary(
                f"/{SERVICE}/ModelInfer", request_serializer=lambda message: message.SerializeToString()
            )
            call = stub(request, metadata=metadata, timeout=timeout)
            code = await call.code()
            return {**dict(await call.trailing_metadata()), "code": code.name}

    async def stop(self) -> None:
        await self._server.stop(0)


async def test_each_call_has_a_line_and_counts_for_its_key() -> None:
    noted = Noted()
    assert (await noted.ask(asking(), KEY, ("x-request-id", "mine")))["x-request-id"] == "mine"
    made = (await noted.ask(asking("none"), KEY, ("x-request-id", "no sane one")))["x-request-id"]
    await noted.ask(asking())
    await noted.stop()
    answered, missing, refused = noted.log.lines
    assert answered.pop("ms").keys() == {"receive", "tokenize", "queue", "compute", "reply", "total"}
    assert answered.pop("tokens") > 0
    assert answered == {
        "request_id": "mine",
        "client": "127.0.0.1",
        "key": "search",
        "method": "gRPC",
        "route": f"/{SERVICE}/ModelInfer",
        "model": "tiny",
        "status": 200,
        "inputs": 1,
    }
    assert (missing["request_id"], missing["status"], missing["key"]) == (made, 404, "search")
    assert (refused["status"], refused["key"], refused["ms"].keys()) == (401, None, {"total"})
    assert TEXT not in str(noted.log.lines)
    text = noted.metrics.render().decode()
    for status in (200, 404):
        assert f'ridgeline_key_requests_total{{key="search",status="{status}"}} 1.0' in text
    assert 'ridgeline_key_tokens_total{key="search"}' in text


async def test_a_call_whose_client_left_has_a_line_too() -> None:
    engine = FakeEngine()

    async def never(_: Request) -> None:
        await asyncio.Event().wait()

    engine.behave = never
    noted = Noted(engine)
    assert (await noted.ask(asking(), KEY, timeout=0.5))["code"] == "DEADLINE_EXCEEDED"
    for _ in range(100):
        if noted.log.lines:
            break
        await asyncio.sleep(0.05)
    await noted.stop()
    assert [(line["status"], line["model"]) for line in noted.log.lines] == [(504, "tiny")]


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.7:4711", "10.0.0.7"),
        ("ipv6:%5B2001:db8::7%5D:4711", "2001:db8::7"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:/run/x", None),
        ("", None),
    ],
)
def test_clients_are_told_by_their_address(peer: str, client: str | None) -> None:
    assert Visit(Peer(peer), "/").client == client
