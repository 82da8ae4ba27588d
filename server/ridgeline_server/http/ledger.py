"""What is noted of each request when it is over: whose key it was, for the metrics, a trace, and a line in the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ridgeline_server.http.exchange import Exchange
from ridgeline_server.http.traces import trace
from ridgeline_server.logs import JsonHandler
from ridgeline_server.report.history import STEPS
from ridgeline_server.report.tally import Counts

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Tracing

# Of a body, where the log shall have texts.
MOST_TEXT_BYTES = 2000


class KeyMetrics(Collector):
    """Requests and tokens by the names of keys, of which a file has a bounded number."""

    def __init__(self) -> None:
        self._requests = Counts("key_requests", "Answered HTTP requests by the name of their API key", "key", "status")
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


class Ledger:
    """Notes requests. `keys`, `log`, `tracing`: None where there are no keys, and no lines or traces are wanted."""

    def __init__(
        self,
        keys: KeyMetrics | None,
        log: JsonHandler | None,
        has_texts: bool = False,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._keys = keys
        self._log = log
        self._has_texts = has_texts

    def note_body(self, exchange: Exchange, body: bytes) -> None:
        """Keep what the log may have of a body."""
        if self._has_texts:
            exchange.text = body[:MOST_TEXT_BYTES]

    def note(self, exchange: Exchange, route: str, status: int, now: float, *, is_traced: bool = True) -> None:
        """The request is over. `route`: template of its path, "other" where there is none."""
        result = exchange.result
        tokens = 0 if result is None else sum(result.tokens)
        caller = exchange.caller
        if self._keys is not None and caller is not None:
            self._keys.record(caller.name, status, tokens)
        span = None
        if self._tracing is not None and is_traced:
            span = trace(self._tracing, exchange, route, status, now)
        if self._log is None:
            return
        client = exchange.scope.get("client")
        fields: dict[str, Any] = {
            "request_id": exchange.request_id.decode(),
            "client": client[0] if client else None,
            "key": None if caller is None else caller.name,
            "method": exchange.scope["method"],
            "route": route,
            "model": exchange.model or None,
            "status": status,
            "inputs": 0 if result is None else len(result.tokens),
            "tokens": tokens,
            "ms": _milliseconds(exchange, now),
        }
        if span is not None:
            fields |= {"trace_id": span.trace_id, "span_id": span.span_id}
        if exchange.text:
            fields["body"] = exchange.text.decode("utf-8", "replace")
        self._log.request(fields)


def _milliseconds(exchange: Exchange, now: float) -> dict[str, float]:
    steps = exchange.steps_s(now)
    told = {} if steps is None else dict(zip(STEPS, steps, strict=True))
    return {name: round(1e3 * seconds, 3) for name, seconds in {**told, "total": now - exchange.received}.items()}
