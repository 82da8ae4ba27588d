"""The Open Inference Protocol over gRPC, against a fake engine."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import DeadlineError, ExecutionError, InvalidInputError, OverloadedError, UnavailableError
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.report import Metrics
from tests.server.http_fakes import DIM, FakeEngine, embedding_of

grpc = pytest.importorskip("grpc")
from ridgeline_server.rpc import intake  # noqa: E402
from ridgeline_server.rpc import open_inference_pb2 as pb  # noqa: E402
from ridgeline_server.rpc.entrance import SERVICE, Entrance  # noqa: E402
from ridgeline_server.rpc.server import RpcServer  # noqa: E402
from ridgeline_server.rpc.service import Service  # noqa: E402


@asynccontextmanager
async def serving(engine: FakeEngine, metrics: Metrics | None = None) -> AsyncIterator[Any]:
    """A function that calls a method of a server of its own."""
    config = ServerConfig(bundles=(Path("tiny"),), max_body_bytes=100_000)
    service = Service(engine, Catalog(engine), config, Entrance(config, metrics or Metrics()))
    server = RpcServer(service.handler(), config.max_body_bytes)
    await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:

        async def call(method: str, request: Any, timeout: float | None = 20) -> Any:
            answer = getattr(pb, f"{method}Response")
            stub = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            return await stub(request, timeout=timeout)

        yield call
    await server.stop(0)


def asking(*texts: str, **fields: Any) -> Any:
    request = pb.ModelInferRequest(model_name="tiny", id="7", **fields)
    request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)]).contents.bytes_contents.extend(
        text.encode() for text in texts
    )
    return request


async def test_texts_are_embedded_as_contents_and_raw() -> None:
    raw = pb.ModelInferRequest(model_name="tiny")
    raw.inputs.add(name="text", datatype="BYTES", shape=[2, 1])
    raw.raw_input_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in (b"ab", b"abc")))
    async with serving(FakeEngine()) as call:
        for request in (asking("ab", "abc"), raw):
            answer = await call("ModelInfer", request)
            (output,) = answer.outputs
            rows = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(output.shape)
            assert (output.name, output.datatype, rows.shape) == ("embedding", "FP32", (2, DIM))
            assert rows.tolist() == [embedding_of("ab").tolist(), embedding_of("abc").tolist()]
            assert (answer.model_name, answer.id) == ("tiny", request.id)


async def test_what_is_told_of_server_and_models() -> None:
    engine = FakeEngine()
    async with serving(engine) as call:
        assert (await call("ServerLive", pb.ServerLiveRequest())).live
        assert (await call("ServerReady", pb.ServerReadyRequest())).ready
        assert (await call("ModelReady", pb.ModelReadyRequest(name="tiny", version="1"))).ready
        assert (await call("ServerMetadata", pb.ServerMetadataRequest())).name == "ridgeline"
        metadata = await call("ModelMetadata", pb.ModelMetadataRequest(name="tiny"))
        assert [list(output.shape) for output in metadata.outputs] == [[-1, DIM], [-1, -1, DIM]]
        engine.ready = False
        assert not (await call("ServerReady", pb.ServerReadyRequest())).ready


def misfits() -> list[tuple[Any, str]]:
    narrow = pb.ModelInferRequest(model_name="tiny")
    narrow.inputs.add(name="text", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    uneven = asking("a", raw_input_contents=[b"", b""])
    both = asking("a", raw_input_contents=[b"\1\0\0\0a"])
    half = pb.ModelInferRequest(model_name="tiny")
    half.inputs.add(name="text", datatype="FP16", shape=[1])
    return [
        (pb.ModelInferRequest(model_name="tiny"), "no inputs"),
        (narrow, "no room"),
        (uneven, "2 entries for 1 inputs"),
        (both, "give one of them"),
        (half, "raw_input_contents"),
        (asking(""), "is empty"),
    ]


@pytest.mark.parametrize(("request_", "message"), misfits())
async def test_what_is_wrong_is_said(request_: Any, message: str) -> None:
    async with serving(FakeEngine()) as call:
        with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
            await call("ModelInfer", request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OverloadedError("full", 2.5), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (UnavailableError("gone", 2.5), grpc.StatusCode.UNAVAILABLE),
        (ExecutionError("broken"), grpc.StatusCode.INTERNAL),
        (ValueError("a secret"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_failures_are_statuses(error: Exception, code: Any) -> None:
    engine, metrics = FakeEngine(), Metrics()
    engine.fail_with(error)
    async with serving(engine, metrics) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call("ModelInfer", asking("a"))
    assert caught.value.code() is code and "secret" not in (caught.value.details() or "")
    trailing = dict(caught.value.trailing_metadata() or ())
    assert (trailing.get("retry-after") == "3") == hasattr(error, "retry_after_s")
    assert f'route="/{SERVICE}/ModelInfer"'.encode() in metrics.render()


async def test_bytes_that_are_no_message_are_refused_and_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Bytes:
        def SerializeToString(self) -> bytes:
            return b"\xff\xff"

    async with serving(FakeEngine()) as call:
        for method in ("ModelInfer", "ServerLive"):
            with pytest.raises(grpc.aio.AioRpcError, match=f"2 bytes is no {method}Request") as caught:
                await call(method, Bytes())
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not caplog.records


async def test_a_client_that_is_gone_before_its_refusal_is_no_failure() -> None:
    class Gone:
        def invocation_metadata(self) -> tuple[()]:
            return ()

        def set_trailing_metadata(self, _: object) -> None:
            """Nobody reads it."""

        async def read(self) -> object:
            return grpc.aio.EOF

        async def abort(self, *_: object) -> None:
            raise grpc.aio.InternalError

    engine, metrics = FakeEngine(), Metrics()
    config = ServerConfig(bundles=(Path("tiny"),))
    handler = Service(engine, Catalog(engine), config, Entrance(config, metrics)).handler()
    call = handler.service(SimpleNamespace(method=f"/{SERVICE}/ServerLive", invocation_metadata=()))
    with pytest.raises(asyncio.CancelledError):
        await call.stream_unary(None, Gone())
    assert b'status="400"' in metrics.render()


async def test_a_message_that_is_too_long_and_an_unknown_model() -> None:
    async with serving(FakeEngine()) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call("ModelInfer", asking("a" * 200_000))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError, match="not served") as caught:
            await call("ModelReady", pb.ModelReadyRequest(name="nothing"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert (await call("ModelInfer", asking("a"))).outputs


async def test_a_client_that_gives_up_cancels_its_request() -> None:
    engine = FakeEngine()

    async def wait(_: Any) -> None:
        await asyncio.sleep(30)

    engine.behave = wait
    metrics = Metrics()
    async with serving(engine, metrics) as call:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call("ModelInfer", asking("a"), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        engine.behave = None
        assert (await call("ModelInfer", asking("a"))).outputs
    assert engine.cancelled == 1
    counted = [line for line in metrics.render().splitlines() if b'status="504"' in line and b"ModelInfer" in line]
    assert counted and all(b'model="tiny"' in line for line in counted)


@pytest.mark.parametrize("is_raw", [False, True])
async def test_too_many_inputs_are_refused_before_their_elements_are_read(is_raw: bool) -> None:
    request = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[b"no elements"] if is_raw else [])
    request.inputs.add(name="text", datatype="BYTES", shape=[2049])
    async with serving(FakeEngine()) as call:
        with pytest.raises(grpc.aio.AioRpcError, match="holds 2049 inputs") as caught:
            await call("ModelInfer", request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Sent:
    """A call whose client sends a message, or none."""

    def __init__(self, message: object = None) -> None:
        self.message = message

    async def read(self) -> object:
        if self.message is None:
            await asyncio.sleep(60)
        return self.message


async def test_messages_have_a_time_and_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "READ_S", 0.01)
    one = intake.Intake(100, 100)
    for _ in range(2):
        with pytest.raises(DeadlineError, match="not there in time"):
            async with one.message(Sent()):
                pass
    slow = asyncio.ensure_future(one.message(Sent()).__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(DeadlineError):  # the slow one has the only turn
        async with one.message(Sent(b"a")):
            pass
    with pytest.raises(DeadlineError):
        await slow
    async with one.message(Sent(b"a" * 60)) as message:
        assert len(message) == one.budget.used == 60
        with pytest.raises(OverloadedError):
            async with one.message(Sent(b"a" * 60)):
                pass
    assert one.budget.used == 0
    with pytest.raises(InvalidInputError, match="no message"):
        async with one.message(Sent(grpc.aio.EOF)):
            pass
