"""What is noted of an HTTP request when it is over: a trace, and the ledger's entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_server.http.exchange import Exchange
from ridgeline_server.http.ledger import Entry, Ledger
from ridgeline_server.http.traces import trace

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Tracing

# Of a body, where the log shall have texts.
MOST_TEXT_BYTES = 2000


class Notes:
    """Notes HTTP requests. `ledger`, `tracing`: None where neither counts nor lines, and no traces are wanted."""

    def __init__(self, ledger: Ledger | None, tracing: Tracing | None, has_texts: bool) -> None:
        self._ledger = ledger
        self._tracing = tracing
        self._has_texts = has_texts

    def keep_text(self, exchange: Exchange, body: bytes) -> None:
        """Keep what the log may have of a body."""
        if self._has_texts:
            exchange.text = body[:MOST_TEXT_BYTES]

    def note(self, exchange: Exchange, route: str, status: int, now: float, *, is_traced: bool = True) -> None:
        """The request is over. `route`: template of its path, "other" where there is none."""
        span = None
        if self._tracing is not None and is_traced:
            span = trace(self._tracing, exchange, route, status, now)
        if self._ledger is None:
            return
        client = exchange.scope.get("client")
        self._ledger.note(
            Entry(
                exchange.request_id.decode(),
                client[0] if client else None,
                exchange.caller,
                exchange.scope["method"],
                route,
                exchange.model,
                status,
                exchange.result,
                exchange.steps_s(now),
                now - exchange.received,
                span,
                exchange.text,
            )
        )
