"""Where a request's time went, from its instants."""

from __future__ import annotations

from ridgeline_server.request import Instants


def phases(instants: Instants, end: float) -> tuple[float, float, float]:
    """Seconds of tokenize, queue and compute, which add up to `end` - received.

    tokenize = tokenized - received, queue = started - tokenized, compute = finished - started.
    end: instant at which the engine was done with the request. One that failed on its way spent the rest of its time
    in the phase that it had reached.
    """
    tokenized = instants.tokenized or end
    started = instants.started or end
    finished = instants.finished or end
    tokenize = tokenized - instants.received
    queue = started - tokenized
    compute = finished - started
    return (
        tokenize if tokenize > 0.0 else 0.0,
        queue if queue > 0.0 else 0.0,
        compute if compute > 0.0 else 0.0,
    )


def server_timing(phase_s: tuple[float, float, float], reply_s: float, receive_s: float) -> bytes:
    """The `Server-Timing` header of an answer, in milliseconds.

    phase_s: seconds of tokenize, queue and compute
    receive_s: seconds of the client's upload, from the request's headers to the end of its body
    """
    tokenize, queue, compute = phase_s
    return b"receive;dur=%.3f, tokenize;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, reply;dur=%.3f, total;dur=%.3f" % (
        receive_s * 1e3,
        tokenize * 1e3,
        queue * 1e3,
        compute * 1e3,
        reply_s * 1e3,
        (receive_s + tokenize + queue + compute + reply_s) * 1e3,
    )
