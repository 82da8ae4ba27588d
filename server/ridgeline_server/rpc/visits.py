"""A call on its way, and what is told of it when it is over: the ledger's entry, and a trace.

Traces follow OpenTelemetry's semantic conventions for RPC servers.
"""

from __future__ import annotations

import time
import urllib.parse
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import grpc

from ridgeline_server.http.ledger import Entry
from ridgeline_server.http.request_ids import request_id
from ridgeline_server.report.history import Steps
from ridgeline_server.request import Result
from ridgeline_server.security.key_ring import Caller

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Attribute, SpanIds, Told, Tracing

# Those that are the server's fault; others are the client's, or nobody's.
_FAILURES = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
    }
)
_CARRIERS = ("traceparent", "tracestate")


class Visit:
    """A call that is being answered.

    context:    gRPC's
    route:      /service/method
    began:      instant at which it came in
    caller:     whose key it brought
    is_counted: whether its key's allowance counts it
    model:      that it asks, once it is found
    result:     the engine's answer, once it is there
    size:       tokens or numbers that the answer is made of, whichever are more
    phases:     seconds of tokenize, queue, compute, where the engine told
    code:       how it ends
    status:     the one of HTTP that stands for the code
    """

    def __init__(self, context: Any, route: str) -> None:
        self.context = context
        self.route = route
        self.began = time.monotonic()
        self.caller: Caller | None = None
        self.is_counted = False
        self.model = ""
        self.result: Result | None = None
        self.size = 0
        self.phases: tuple[float, float, float] | None = None
        self.code = grpc.StatusCode.CANCELLED
        self.status = 500

    @cached_property
    def given(self) -> dict[str, str]:
        """Metadata of the call, but for what is binary."""
        metadata = self.context.invocation_metadata() or ()
        return {name: value for name, value in metadata if isinstance(value, str)}

    @cached_property
    def request_id(self) -> str:
        """The client's `x-request-id`, where it is a sane one, else one that is made here."""
        given = self.given.get("x-request-id")
        return request_id(None if given is None else given.encode()).decode()

    @property
    def client(self) -> str | None:
        """The client's address; gRPC tells it as `ipv4:127.0.0.1:4711`, or `ipv6:[::1]:4711` with brackets quoted."""
        kind, _, peer = urllib.parse.unquote(self.context.peer() or "").partition(":")
        return peer.rpartition(":")[0].strip("[]") or None if kind in ("ipv4", "ipv6") else None

    def steps_s(self, ended: float) -> Steps | None:
        """Seconds of receive, tokenize, queue, compute and reply, where the engine told."""
        if self.phases is None:
            return None
        if self.result is None:
            return (0.0, *self.phases, 0.0)
        instants = self.result.instants
        return (max(instants.received - self.began, 0.0), *self.phases, max(ended - instants.finished, 0.0))


def entry_of(visit: Visit, ended: float, span: SpanIds | None) -> Entry:
    """What the ledger takes of a call that is over."""
    return Entry(
        visit.request_id,
        visit.client,
        visit.caller,
        "gRPC",
        visit.route,
        visit.model,
        visit.status,
        visit.result,
        visit.steps_s(ended),
        ended - visit.began,
        span,
    )


def trace(tracing: Tracing, visit: Visit, ended: float) -> SpanIds:
    """Make the spans of a call that is over."""
    carrier = {name: visit.given[name] for name in _CARRIERS if name in visit.given}
    return tracing.record(visit.route[1:], visit.began, ended, carrier, partial(_tell, visit, ended))


def _tell(visit: Visit, ended: float) -> Told:
    from ridgeline_server.report.tracing import Told

    told: dict[str, Attribute] = {
        "rpc.system.name": "grpc",
        "rpc.method": visit.route[1:],
        "rpc.response.status_code": visit.code.name,
        "ridgeline.request_id": visit.request_id,
    }
    agent = visit.given.get("user-agent")
    if agent is not None:
        told["user_agent.original"] = agent
    if visit.caller is not None:
        told["ridgeline.key"] = visit.caller.name
    return Told(told, visit.steps_s(ended), visit.result, visit.code.name if visit.code in _FAILURES else None)
