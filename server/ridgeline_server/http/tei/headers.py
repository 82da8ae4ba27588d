"""The headers with which text-embeddings-inference tells what an answer took."""

from __future__ import annotations

from ridgeline_server.http.exchange import Exchange, Headers
from ridgeline_server.request import ModelInfo


def compute_headers(exchange: Exchange, info: ModelInfo, characters: int, tokens: int) -> Headers:
    """Of an answered request. characters: of its inputs, Unicode code points, or token ids; times are milliseconds."""
    tokenize, queue, compute = exchange.phases or (0.0, 0.0, 0.0)
    total_ms = b"%d" % ((tokenize + queue + compute) * 1e3)
    return [
        (b"x-compute-type", b"cpu+optimized" if info.device == "cpu" else b"gpu+optimized"),
        (b"x-compute-time", total_ms),
        (b"x-compute-characters", b"%d" % characters),
        (b"x-compute-tokens", b"%d" % tokens),
        (b"x-total-time", total_ms),
        (b"x-tokenization-time", b"%d" % (tokenize * 1e3)),
        (b"x-queue-time", b"%d" % (queue * 1e3)),
        (b"x-inference-time", b"%d" % (compute * 1e3)),
    ]
