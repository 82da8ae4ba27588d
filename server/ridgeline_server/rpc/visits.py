"""A call on its way, and what a trace tells of it by OpenTelemetry's semantic conventions for RPC servers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from ridgeline_server.report.history import Steps
from ridgeline_server.request import Result
from ridgeline_server.security.key_ring import Caller

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Attribute, Told, Tracing

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


@dataclass(slots=True)
class Visit:
    """A call that is being answered.

    caller: whose key it brought
    model:  that it asks, once it is found
    result: the engine's answer, once it is there
    size:   tokens or numbers that the answer is made of, whichever are more
    phases: seconds of tokenize, queue, compute, where the engine told
    """

    caller: Caller | None = None
    model: str = ""
    result: Result | None = None
    size: int = 0
    phases: tuple[float, float, float] | None = None

    def steps_s(self, began: float, ended: float) -> Steps | None:
        """Seconds of receive, tokenize, queue, compute and reply, of a call between these instants."""
        if self.phases is None:
            return None
        if self.result is None:
            return (0.0, *self.phases, 0.0)
        instants = self.result.instants
        return (max(instants.received - began, 0.0), *self.phases, max(ended - instants.finished, 0.0))


def trace(
    tracing: Tracing, method: str, context: Any, visit: Visit, code: grpc.StatusCode, began: float, ended: float
) -> None:
    """Make the spans of a call that is over. method: service/method"""
    given = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    carrier = {name: given[name] for name in _CARRIERS if name in given}
    tell = partial(_tell, method, given.get("user-agent"), visit, code, began, ended)
    tracing.record(method, began, ended, carrier, tell)


def _tell(method: str, agent: str | None, visit: Visit, code: grpc.StatusCode, began: float, ended: float) -> Told:
    from ridgeline_server.report.tracing import Told

    told: dict[str, Attribute] = {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.response.status_code": code.name,
    }
    if agent is not None:
        told["user_agent.original"] = agent
    if visit.caller is not None:
        told["ridgeline.key"] = visit.caller.name
    return Told(told, visit.steps_s(began, ended), visit.result, code.name if code in _FAILURES else None)
