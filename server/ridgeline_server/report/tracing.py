"""Traces of requests, sent by OTLP over HTTP: a span for a request, and one for each of the engine's stages.

Spans are made when a request is over, from the instants that it carries anyway, and are sent by a thread. Whoever
receives them may be slow or away: what does not fit into the thread's queue is dropped. No span holds texts of users.

Imported only where traces are asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ridgeline_server.errors import StartupError
from ridgeline_server.report.complaints import Complaints
from ridgeline_server.report.costs import predicted_s, share_of_peak
from ridgeline_server.report.history import STEPS, Steps
from ridgeline_server.request import BatchRecord, Result

Attribute = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
Attributes = Mapping[str, Attribute]

logger = logging.getLogger(__name__)

PATH = "/v1/traces"
# Of a request that ran in more batches, the first ones are told.
_MOST_BATCHES = 64
_MOST_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Told:
    """A request that is over, as its span tells of it.

    steps:   seconds of each of STEPS, from when the request came; None where the engine told nothing
    failure: why the server failed, a word; None where it did not
    """

    attributes: Attributes
    steps: Steps | None = None
    result: Result | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class SpanIds:
    """What a log names a span by, in hexadecimal."""

    trace_id: str
    span_id: str


class Tracing:
    """Makes spans and has them sent."""

    def __init__(self, exporter: SpanExporter, ratio: float, version: str) -> None:
        """ratio: share of the requests that are traced, of those whose senders do not say; version: the server's"""
        own = Resource({SERVICE_VERSION: version, SERVICE_INSTANCE_ID: str(uuid.uuid4())})
        resource = own.merge(Resource.create())  # which reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "ridgeline"}))
        self._provider = TracerProvider(
            ParentBased(TraceIdRatioBased(ratio)),
            resource,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("ridgeline", version)
        self._read = TraceContextTextMapPropagator().extract
        self._complaints = Complaints("opentelemetry", "traces may be missing")

    def record(
        self, name: str, received: float, ended: float, carrier: Mapping[str, str], tell: Callable[[], Told]
    ) -> SpanIds:
        """Make the spans of a request that is over.

        received, ended: instants of CLOCK_MONOTONIC
        carrier:  its headers `traceparent` and `tracestate`, where it had them: the span that it was sent in
        tell:     called only when the request is traced
        """
        # Clocks of the day are set now and then: each request has an offset of its own.
        offset_s = time.time() - time.monotonic()
        began = _nanoseconds(received + offset_s)
        parent = self._read(carrier) if carrier else None
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, start_time=began)
        if span.is_recording():
            told = tell()
            for key, value in told.attributes.items():  # some are what a client sent
                span.set_attribute(key, value[:_MOST_CHARACTERS] if isinstance(value, str) else value)
            if told.result is not None:
                span.set_attributes(_result(told.result))
            if told.failure is not None:
                span.set_attribute("error.type", told.failure)
                span.set_status(Status(StatusCode.ERROR))
            if told.steps is not None:
                self._record_steps(span, received + offset_s, told.steps, told.result)
            span.end(_nanoseconds(ended + offset_s))
        context = span.get_span_context()
        return SpanIds(f"{context.trace_id:032x}", f"{context.span_id:016x}")

    def close(self, timeout_s: float) -> None:
        """Send what is left, for so many seconds at most."""
        # The library's own limits do not end an attempt that is under way.
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(timeout_s)
        self._complaints.close()
        if closing.is_alive():
            logger.warning("the last traces could not be sent within %g s", timeout_s)

    def _record_steps(self, parent: Span, began_s: float, steps: Steps, result: Result | None) -> None:
        """A span for each stage that took time, end to end."""
        context = set_span_in_context(parent)
        for name, seconds in zip(STEPS, steps, strict=True):
            if seconds <= 0.0:
                continue
            attributes = _batches(result.batches) if name == "compute" and result is not None else None
            span = self._tracer.start_span(name, context, attributes=attributes, start_time=_nanoseconds(began_s))
            began_s += seconds
            span.end(_nanoseconds(began_s))


def make_tracing(endpoint: str, ratio: float, version: str) -> Tracing:
    """Traces that go to an OTLP endpoint over HTTP. Raises StartupError for what is no URL.

    endpoint: as OTEL_EXPORTER_OTLP_ENDPOINT: the path of traces is added where there is none
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartupError(f"--otlp-endpoint is '{endpoint[:200]}'; give a URL such as http://localhost:4318")
    path = parts.path if parts.path.endswith(PATH) else parts.path.rstrip("/") + PATH
    url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        logger.warning("OTEL_SDK_DISABLED is set: no traces are sent")
    else:
        logger.info("traces go to %s://%s%s", parts.scheme, parts.netloc.rpartition("@")[2], path)
    return Tracing(OTLPSpanExporter(url), ratio, version)


def _result(result: Result) -> dict[str, Attribute]:
    """What an answer cost; what is not known is left out."""
    told: dict[str, Attribute | None] = {
        "ridgeline.model": result.model,
        "ridgeline.model_version": result.version,
        "ridgeline.sequences": len(result.tokens),
        "ridgeline.tokens": sum(result.tokens),
        "ridgeline.truncated": result.truncated,
        "ridgeline.flops": result.flops,
        "ridgeline.share_of_peak": share_of_peak(result.batches),
        "ridgeline.predicted_s": predicted_s(result.batches),
    }
    if result.batches:
        batch = result.batches[0]
        told |= {
            "ridgeline.variant": batch.variant,
            "ridgeline.runtime": batch.runtime,
            "ridgeline.precision": batch.precision,
        }
    if result.cached is not None:
        told |= {"ridgeline.cache.hits": result.cached[0], "ridgeline.cache.misses": result.cached[1]}
    return {name: value for name, value in told.items() if value is not None}


def _batches(batches: Sequence[BatchRecord]) -> dict[str, Attribute]:
    """The batches that a request ran in, with whatever else ran in them; an entry for each."""
    told = batches[:_MOST_BATCHES]
    return {
        "ridgeline.batches": len(batches),
        "ridgeline.batch.rows": [batch.rows for batch in told],
        "ridgeline.batch.tokens": [batch.real_tokens for batch in told],
        "ridgeline.batch.padded_tokens": [batch.padded_tokens for batch in told],
        "ridgeline.batch.replica": [batch.replica for batch in told],
        "ridgeline.batch.seconds": [batch.finished - batch.started for batch in told],
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
