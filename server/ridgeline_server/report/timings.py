"""Where a request's time went, from its instants."""

from __future__ import annotations

from ridgeline_server.request import Instants


def phases(instants: Instants) -> tuple[float, float, float]:
    """Seconds of tokenize, queue and compute; a phase that was not reached counts 0."""
    tokenized = max(instants.tokenized, instants.received)
    started = max(instants.started, tokenized)
    finished = max(instants.finished, started)
    return tokenized - instants.received, started - tokenized, finished - started


def server_timing(instants: Instants, now: float) -> str:
    """The `Server-Timing` header of an answer: milliseconds of each phase, `reply` reaching until `now`.

    tokenize = tokenized - received, queue = started - tokenized, compute = finished - started,
    reply = now - finished, total = now - received: the four phases add up to the total.
    """
    tokenize, queue, compute = phases(instants)
    total = now - instants.received
    reply = max(total - tokenize - queue - compute, 0.0)
    return (
        f"tokenize;dur={tokenize * 1e3:.3f}, queue;dur={queue * 1e3:.3f}, compute;dur={compute * 1e3:.3f}, "
        f"reply;dur={reply * 1e3:.3f}, total;dur={total * 1e3:.3f}"
    )
