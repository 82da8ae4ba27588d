"""What is noted of each request when it is over, by HTTP or gRPC: counts by key, and a line in the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ridgeline_server.logs import JsonHandler
from ridgeline_server.report import Metrics
from ridgeline_server.report.history import STEPS, Steps
from ridgeline_server.report.tally import Counts
from ridgeline_server.request import Result
from ridgeline_server.security.key_ring import Caller

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import SpanIds


class KeyMetrics(Collector):
    """Requests and tokens by the names of keys, of which a file has a bounded number."""

    def __init__(self) -> None:
        self._requests = Counts("key_requests", "Answered requests by the name of their API key", "key", "status")
        self._tokens = Counts("key_tokens", "Tokens of answered requests by the name of their API key", "key")

    def record(self, key: str, status: int, tokens: int) -> None:
        """Count a request."""
        self._requests.add((key, str(status)))
        if tokens:
            self._tokens.add((key,), tokens)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Everything that was counted."""
        yield self._requests.collect()
        yield self._tokens.collect()


@dataclass(frozen=True, slots=True)
class Entry:
    """A request that is over.

    client:  its address, where it is known
    caller:  whose key it brought, None where it brought none
    method:  of HTTP, or "gRPC"
    route:   template of its path, "other" where there is none
    status:  of HTTP, or the one that stands for gRPC's
    result:  the engine's answer, None where there was none
    steps_s: seconds of receive, tokenize, queue, compute and reply, where the engine told
    total_s: seconds from its head to its answer
    span:    of its trace
    text:    the beginning of its body, where the log shall have it
    """

    request_id: str
    client: str | None
    caller: Caller | None
    method: str
    route: str
    model: str
    status: int
    result: Result | None
    steps_s: Steps | None
    total_s: float
    span: SpanIds | None = None
    text: bytes = b""


class Ledger:
    """Notes requests. `keys`, `log`: None where there are no keys, and no lines are wanted."""

    def __init__(self, keys: KeyMetrics | None, log: JsonHandler | None) -> None:
        self._keys = keys
        self._log = log

    def note(self, entry: Entry) -> None:
        """Count the request, and write its line."""
        tokens = 0 if entry.result is None else sum(entry.result.tokens)
        if self._keys is not None and entry.caller is not None:
            self._keys.record(entry.caller.name, entry.status, tokens)
        if self._log is None:
            return
        fields: dict[str, Any] = {
            "request_id": entry.request_id,
            "client": entry.client,
            "key": None if entry.caller is None else entry.caller.name,
            "method": entry.method,
            "route": entry.route,
            "model": entry.model or None,
            "status": entry.status,
            "inputs": 0 if entry.result is None else len(entry.result.tokens),
            "tokens": tokens,
            "ms": _milliseconds(entry),
        }
        if entry.span is not None:
            fields |= {"trace_id": entry.span.trace_id, "span_id": entry.span.span_id}
        if entry.text:
            fields["body"] = entry.text.decode("utf-8", "replace")
        self._log.request(fields)


def make_ledger(metrics: Metrics, has_keys: bool, log: JsonHandler | None) -> Ledger | None:
    """The ledger of a server, whose counts `metrics` tells; None when there is nothing to note of requests."""
    keys = None
    if has_keys:
        keys = KeyMetrics()
        metrics.registry.register(keys)
    return None if keys is None and log is None else Ledger(keys, log)


def _milliseconds(entry: Entry) -> dict[str, float]:
    told = {} if entry.steps_s is None else dict(zip(STEPS, entry.steps_s, strict=True))
    return {name: round(1e3 * seconds, 3) for name, seconds in {**told, "total": entry.total_s}.items()}
