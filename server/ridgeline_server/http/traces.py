"""What a trace tells of an HTTP request: by OpenTelemetry's semantic conventions for servers, and what is ours.

A path is told where it is a route's, a query and a body never: they hold what users send.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ridgeline_server.http.exchange import Exchange

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Attribute, SpanIds, Told, Tracing

# Asked again and again by machines that look how the server is.
UNTRACED_ROUTES = frozenset({"/health", "/ping", "/ready", "/metrics", "/dashboard.json"})
CLIENT_LEFT = 499
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_CARRIERS = (b"traceparent", b"tracestate")


def trace(tracing: Tracing, exchange: Exchange, route: str, status: int, now: float) -> SpanIds | None:
    """Make the spans of a request that is over; None where it is not worth any.

    route: template of its path, "other" where there is none
    """
    if route in UNTRACED_ROUTES:
        return None
    method = exchange.scope["method"]
    shown = method if method in _METHODS else "HTTP"
    given = exchange.given
    carrier = {name.decode(): given[name].decode("latin-1") for name in _CARRIERS if name in given}
    tell = partial(_tell, exchange, route, status, now)
    return tracing.record(shown if route == "other" else f"{shown} {route}", exchange.received, now, carrier, tell)


def _tell(exchange: Exchange, route: str, status: int, now: float) -> Told:
    from ridgeline_server.report.tracing import Told

    scope = exchange.scope
    method = scope["method"]
    told: dict[str, Attribute] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
        "ridgeline.request_id": exchange.request_id.decode(),
        "ridgeline.priority": exchange.priority.value,
    }
    if route != "other":
        told |= {"http.route": route, "url.path": scope["path"]}
    if status == CLIENT_LEFT:
        told["error.type"] = "client_left"
    else:
        told["http.response.status_code"] = status
    client, server = scope.get("client"), scope.get("server")
    if client:
        told["client.address"] = client[0]
    if server and server[1] is not None:
        told |= {"server.address": server[0], "server.port": server[1]}
    agent = exchange.given.get(b"user-agent")
    if agent is not None:
        told["user_agent.original"] = agent.decode("latin-1")
    if exchange.model:
        told["ridgeline.model"] = exchange.model
    if exchange.caller is not None:
        told["ridgeline.key"] = exchange.caller.name
    failure = str(status) if status >= 500 else None
    return Told(told, exchange.steps_s(now), exchange.result, failure)
