"""Where a request's time went, from its instants."""

from __future__ import annotations

from ridgeline_server.request import Instants


def phases(instants: Instants, now: float) -> tuple[float, float, float, float]:
    """Seconds of tokenize, queue, compute and reply, which add up to `now` - received.

    tokenize = tokenized - received, queue = started - tokenized, compute = finished - started, reply = now - finished.
    A request that failed on its way spent the rest of its time in the phase that it had reached.
    """
    tokenized = instants.tokenized or now
    started = instants.started or now
    finished = instants.finished or now
    return (
        max(tokenized - instants.received, 0.0),
        max(started - tokenized, 0.0),
        max(finished - started, 0.0),
        max(now - finished, 0.0),
    )


def server_timing(instants: Instants, now: float, arrived: float) -> str:
    """The `Server-Timing` header of an answer, in milliseconds.

    arrived: instant at which the request's headers were there; `receive` = received - arrived is the client's upload
    """
    tokenize, queue, compute, reply = phases(instants, now)
    return (
        f"receive;dur={max(instants.received - arrived, 0.0) * 1e3:.3f}, "
        f"tokenize;dur={tokenize * 1e3:.3f}, queue;dur={queue * 1e3:.3f}, compute;dur={compute * 1e3:.3f}, "
        f"reply;dur={reply * 1e3:.3f}, total;dur={(now - arrived) * 1e3:.3f}"
    )
