"""Traces: spans as a collector gets them over HTTP, and what they hold."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import DeadlineError, ExecutionError, StartupError
from ridgeline_server.http import create_app
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.ledger import make_ledger
from ridgeline_server.report import Metrics, Report
from ridgeline_server.report.complaints import Complaints
from ridgeline_server.report.tracing import Told, Tracing, make_tracing
from ridgeline_server.request import Instants, Request, Result
from tests.server.http_fakes import Answer, FakeEngine, batch_record, drive
from tests.server.locked import BEARER, ring
from tests.server.running_server import running_server

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STEPS = ["receive", "tokenize", "queue", "compute", "reply"]
SECRET = "what nobody else shall read"


@dataclass
class Collector:
    """What was sent to a collector of traces. status: what it answers."""

    url: str = ""
    status: int = 200
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    @property
    def roots(self) -> list[Span]:
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def children(self, root: Span) -> list[Span]:
        of_root = [span for span in self.spans if span.parent_span_id == root.span_id]
        return sorted(of_root, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))

    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[0].resource_spans[0].resource)


@pytest.fixture
def collector() -> Iterator[Collector]:
    seen = Collector()
    seen.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.may_answer.wait(10)
            seen.paths.append(self.path)
            seen.bodies.append(body)
            if seen.status == 200:
                seen.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(seen.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield seen
        finally:
            seen.may_answer.set()
            server.shutdown()
            thread.join()


def attributes(thing: Any) -> dict[str, Any]:
    """Attributes of a span or a resource, plain."""

    def plain(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return [plain(entry) for entry in value.array_value.values] if kind == "array_value" else getattr(value, kind)

    return {entry.key: plain(entry.value) for entry in thing.attributes}


@dataclass
class Staged(FakeEngine):
    """Answers with instants in the past, so that every stage took time."""

    cached: tuple[int, int] | None = None

    async def submit(self, request: Request) -> Result:
        await asyncio.sleep(0.01)
        result = await super().submit(request)
        received = request.received
        instants = Instants(received, received + 0.001, received + 0.003, received + 0.007)
        return replace(result, instants=instants, cached=self.cached)


class Recorder:
    """Takes the lines that a log would have."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def request(self, fields: dict[str, Any]) -> None:
        self.lines.append(fields)


def ask(
    tracing: Tracing, engine: FakeEngine | None = None, path: str = "/v1/embeddings", log: Any = None, **headers: str
) -> Answer:
    """One request through a door that is traced."""
    config = ServerConfig(bundles=(Path("tiny"),))
    metrics = Metrics()
    ledger = make_ledger(metrics, False, log)
    door = create_app(engine or Staged(), config, Report(), metrics, tracing=tracing, ledger=ledger)
    method = "POST" if path in ("/v1/embeddings", "/embed") else "GET"
    body = orjson.dumps({"model": "tiny", "input": [SECRET], "inputs": [SECRET]}) if method == "POST" else b""
    given = {"content-type": "application/json", "content-length": str(len(body))} | headers
    return asyncio.run(drive(door, method, path, [body], given))


def test_a_request_is_a_span_and_its_stages_are_spans_in_it(collector: Collector) -> None:
    tracing = make_tracing(collector.url, 1.0, "1.2")
    batches = [batch_record(), batch_record(rows=2, replica=1)]
    before = time.time_ns()
    answer = ask(tracing, Staged(batches=batches, cached=(0, 1)), **{"user-agent": 1000 * "u"})
    after = time.time_ns()
    tracing.close(5)
    assert answer.status == 200
    assert collector.paths == ["/v1/traces"]
    (root,) = collector.roots
    children = collector.children(root)
    assert root.name == "POST /v1/embeddings"
    assert root.status.code == Status.STATUS_CODE_UNSET
    assert not root.parent_span_id
    assert [span.name for span in children] == STEPS
    assert len(collector.spans) == 1 + len(STEPS)
    assert {span.trace_id for span in collector.spans} == {root.trace_id}
    assert before - 50_000_000 < root.start_time_unix_nano < root.end_time_unix_nano < after + 50_000_000
    ends = [root.start_time_unix_nano, *(span.end_time_unix_nano for span in children)]
    starts = [*(span.start_time_unix_nano for span in children), root.end_time_unix_nano]
    for end, start in zip(ends, starts, strict=True):
        assert abs(end - start) < 2_000, "end to end, but for what doubles of seconds cannot tell"
    tokenize, queue, compute = (span.end_time_unix_nano - span.start_time_unix_nano for span in children[1:4])
    assert [round(nanoseconds / 1e5) for nanoseconds in (tokenize, queue, compute)] == [10, 20, 40]
    told = attributes(root)
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == told["url.path"] == "/v1/embeddings"
    assert told["http.response.status_code"] == 200
    assert told["client.address"] == "127.0.0.1"
    assert told["server.port"] == 8000
    assert told["user_agent.original"] == 256 * "u"
    assert told["ridgeline.request_id"] == answer.headers["x-request-id"]
    assert told["ridgeline.model"] == "tiny"
    assert told["ridgeline.tokens"] == 16
    assert told["ridgeline.flops"] == 16e6
    assert told["ridgeline.share_of_peak"] == pytest.approx(0.24)
    assert (told["ridgeline.variant"], told["ridgeline.runtime"]) == ("fp32", "onnxruntime")
    assert (told["ridgeline.cache.hits"], told["ridgeline.cache.misses"]) == (0, 1)
    ran = attributes(children[3])
    assert ran["ridgeline.batch.rows"] == [4, 2]
    assert ran["ridgeline.batch.replica"] == [0, 1]
    assert collector.resource()["service.name"] == "ridgeline"
    assert collector.resource()["service.version"] == "1.2"
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_span_belongs_to_the_trace_that_its_request_came_with(collector: Collector) -> None:
    tracing = make_tracing(collector.url + "/", 0.0, "1")
    log = Recorder()
    ask(tracing, traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=1", log=log)
    ask(tracing, traceparent=f"00-{TRACE}-{PARENT}-00", log=log)
    ask(tracing, traceparent=f"00-{TRACE}-nonsense-01", log=log)
    ask(tracing, log=log)
    tracing.close(5)
    (root,) = collector.roots
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert root.trace_state == "vendor=1"
    assert [line["trace_id"] == TRACE for line in log.lines] == [True, True, False, False]
    assert log.lines[0]["span_id"] == root.span_id.hex()


def test_a_part_of_the_requests_is_traced(collector: Collector) -> None:
    tracing = make_tracing(collector.url, 0.5, "1")
    told: list[Told] = []

    def tell() -> Told:
        told.append(Told({}))
        return told[-1]

    for _ in range(400):
        tracing.record("GET /", 1.0, 2.0, {}, tell)
    tracing.close(5)
    assert 120 < len(told) < 280
    assert len(collector.roots) == len(told)


def test_failures_are_told_and_texts_are_not(collector: Collector) -> None:
    tracing = make_tracing(collector.url + "/v1/traces", 1.0, "1")
    engine = Staged()
    failure = ExecutionError(f"the worker died of {SECRET}")
    engine.fail_with(failure)
    assert ask(tracing, engine).status == 500
    late = DeadlineError("late")
    now = time.monotonic()
    late.instants = Instants(now, now + 0.001, 0.0, 0.0)
    engine.fail_with(late)
    assert ask(tracing, engine, "/embed").status == 504
    assert ask(tracing, engine, f"/{SECRET}".replace(" ", "-")).status == 404
    assert ask(tracing, engine, "/v1/models").status == 200
    for path in ("/health", "/ready", "/metrics"):
        assert ask(tracing, engine, path).status == 200
    tracing.close(5)
    failed, timed_out, missing, models = collector.roots
    assert failed.status.code == timed_out.status.code == Status.STATUS_CODE_ERROR
    assert (attributes(failed)["error.type"], attributes(timed_out)["error.type"]) == ("500", "504")
    assert not collector.children(failed)
    assert [span.name for span in collector.children(timed_out)][:2] == ["receive", "tokenize"]
    assert missing.name == "GET"
    assert missing.status.code == Status.STATUS_CODE_UNSET
    assert "url.path" not in attributes(missing)
    assert models.name == "GET /v1/models"
    everything = b"".join(collector.bodies)
    assert SECRET.encode() not in everything
    assert SECRET.replace(" ", "-").encode() not in everything


def test_strangers_are_not_traced(collector: Collector) -> None:
    tracing = make_tracing(collector.url, 1.0, "1")
    config = ServerConfig(bundles=(Path("tiny"),))
    door = create_app(Staged(), config, Report(), Metrics(), tracing=tracing, keys=ring())
    for given, status in (({}, 401), (BEARER, 200)):
        given = {"traceparent": f"00-{TRACE}-{PARENT}-01", **given}
        assert asyncio.run(drive(door, "GET", "/v1/models", [b""], given)).status == status
    tracing.close(5)
    (let_in,) = collector.roots
    assert let_in.name == "GET /v1/models"


def test_a_request_whose_client_left_is_told_as_such(collector: Collector) -> None:
    tracing = make_tracing(collector.url, 1.0, "1")
    door = create_app(FakeEngine(), ServerConfig(bundles=(Path("tiny"),)), Report(), Metrics(), tracing=tracing)
    given = {"content-type": "application/json", "content-length": "100"}

    async def leave() -> None:
        scope = {"type": "http", "method": "POST", "path": "/embed", "headers": [], "scheme": "http"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in given.items()]

        async def receive() -> dict[str, Any]:
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pytest.fail("nobody is there")

        await door(scope, receive, send)

    asyncio.run(leave())
    tracing.close(5)
    (root,) = collector.roots
    told = attributes(root)
    assert told["error.type"] == "client_left"
    assert "http.response.status_code" not in told
    assert root.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize("is_refusing", [True, False], ids=["nobody listens", "it fails"])
def test_a_collector_that_is_away_costs_a_line(
    collector: Collector, caplog: pytest.LogCaptureFixture, is_refusing: bool
) -> None:
    collector.status = 400
    tracing = make_tracing("http://127.0.0.1:1" if is_refusing else collector.url, 1.0, "1")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert ask(tracing).status == 200
            if not is_refusing:
                tracing._provider.force_flush()
        tracing.close(1.0)
    complaints = [record.getMessage() for record in caplog.records if "traces may be missing" in record.getMessage()]
    assert len(complaints) == 1
    assert not logging.getLogger("opentelemetry").handlers


def test_a_collector_that_does_not_answer_holds_up_the_end_for_a_bounded_time(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.may_answer.clear()
    tracing = make_tracing(collector.url, 1.0, "1")
    assert ask(tracing).status == 200
    tracing.close(0.1)
    assert "could not be sent within 0.1 s" in caplog.text


def test_the_environment_names_the_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "search")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing = make_tracing(collector.url, 1.0, "1")
    ask(tracing)
    tracing.close(5)
    told = collector.resource()
    assert (told["service.name"], told["deployment.environment.name"]) == ("search", "test")
    assert told["telemetry.sdk.language"] == "python"


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://host", "http://", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(StartupError, match=r"--otlp-endpoint is .*; give a URL such as http://localhost:4318"):
        make_tracing(url, 1.0, "1")


def test_warnings_are_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    complaints = Complaints("some_library", "it fails", lambda: clock[0])
    library = logging.getLogger("some_library.part")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            library.warning("again")
        clock[0] = 61.0
        library.error("once more")
    complaints.close()
    assert [record.getMessage() for record in caplog.records] == [
        "it fails: again",
        "it fails: once more (4 more such warnings since the last one that is told)",
    ]
    assert library.parent is not None
    assert library.parent.propagate


def test_without_an_endpoint_no_sdk_is_imported() -> None:
    code = (
        "import sys, ridgeline_server.running, ridgeline_server.http, ridgeline_server.rpc.service\n"
        "from ridgeline_server.config import ServerConfig\n"
        "from ridgeline_server.running import _make_tracing\n"
        "assert _make_tracing(ServerConfig(bundles=())) is None\n"
        "print(*(name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))))\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


async def test_grpc_calls_are_traced_too(collector: Collector) -> None:
    grpc = pytest.importorskip("grpc")
    from ridgeline_server.rpc import open_inference_pb2 as pb
    from ridgeline_server.rpc.entrance import SERVICE, Entrance
    from ridgeline_server.rpc.server import RpcServer
    from ridgeline_server.rpc.service import Service

    tracing = make_tracing(collector.url, 1.0, "1")
    engine = Staged(batches=[batch_record()])
    config = ServerConfig(bundles=(Path("tiny"),))
    service = Service(engine, Catalog(engine), config, Entrance(config, Metrics(), tracing=tracing))
    server = RpcServer(service.handler(), config.max_body_bytes)
    await server.start("127.0.0.1", 0)
    tensor = pb.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(SECRET.encode())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:

        def call(method: str, kind: Any) -> Any:
            return channel.unary_unary(
                f"/{SERVICE}/{method}", request_serializer=lambda m: m.SerializeToString(), response_deserializer=kind
            )

        infer = call("ModelInfer", pb.ModelInferResponse.FromString)
        sent = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
        await infer(pb.ModelInferRequest(model_name="tiny", inputs=[tensor]), metadata=sent)
        with pytest.raises(grpc.aio.AioRpcError):
            await infer(pb.ModelInferRequest(model_name="none", inputs=[tensor]))
        await call("ServerLive", pb.ServerLiveResponse.FromString)(pb.ServerLiveRequest())
    await server.stop(1)
    await asyncio.to_thread(tracing.close, 5)
    answered, missing = collector.roots
    assert answered.name == missing.name == f"{SERVICE}/ModelInfer"
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE, PARENT)
    told = attributes(answered)
    assert (told["rpc.system.name"], told["rpc.method"]) == ("grpc", f"{SERVICE}/ModelInfer")
    assert (told["rpc.response.status_code"], told["ridgeline.model"]) == ("OK", "tiny")
    assert [span.name for span in collector.children(answered)] == STEPS
    assert attributes(missing)["rpc.response.status_code"] == "NOT_FOUND"
    assert missing.status.code == Status.STATUS_CODE_UNSET
    assert SECRET.encode() not in b"".join(collector.bodies)


def test_a_real_server_keeps_answers_and_sends_its_last_traces(collector: Collector, tiny_bundle: Path) -> None:
    flags = ("--cache-bytes", "1000000", "--otlp-endpoint", collector.url)
    with running_server(str(tiny_bundle), *flags) as server:
        answers = [httpx.post(f"{server.url}/embed", json={"inputs": ["cold rain", SECRET]}) for _ in range(2)]
        metrics = httpx.get(f"{server.url}/metrics").text
    assert answers[0].content == answers[1].content
    assert [answer.headers["x-cache"] for answer in answers] == ["hits=0, misses=2", "hits=2, misses=0"]
    assert 'flops;desc="0"' in answers[1].headers["server-timing"]
    assert f'ridgeline_cache_entries{{model="{tiny_bundle.name}"}} 2.0' in metrics
    computed, kept = collector.roots
    assert [span.name for span in collector.children(computed)] == STEPS
    assert [span.name for span in collector.children(kept)] == ["receive", "tokenize", "reply"]
    assert attributes(kept)["ridgeline.cache.hits"] == 2
    assert SECRET.encode() not in b"".join(collector.bodies)
