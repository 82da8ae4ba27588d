"""What a request cost: its FLOPs, and how the batches that it ran in did against peak and prediction.

A batch may hold inputs of other requests too. Its seconds cannot be told apart by request, so that they and what
follows from them are the whole batch's; `flops` alone is the request's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_server.report.figures import possible_flops, ratio
from ridgeline_server.request import BatchRecord, Result


def cost_timing(result: Result) -> bytes:
    """Entries of the `Server-Timing` header; what is not known is left out."""
    entries = b', flops;desc="%.4g"' % result.flops
    batches = result.batches
    share = share_of_peak(batches)
    if share is not None:
        entries += b', mfu;desc="%.3f"' % share
    seconds = predicted_s(batches)
    if seconds is not None:
        entries += b", predict;dur=%.3f" % (seconds * 1e3)
    return entries


def describe_cost(result: Result, phase_s: tuple[float, float, float], receive_s: float) -> dict[str, object]:
    """The cost as a body carries it, None for what is not known.

    phase_s:   seconds of tokenize, queue and compute
    receive_s: seconds of the client's upload
    """
    batches = result.batches
    tokenize_s, queue_s, compute_s = phase_s
    return {
        "flops": result.flops,
        "predicted_s": predicted_s(batches),
        "measured_s": sum(batch.finished - batch.started for batch in batches) if batches else None,
        "share_of_peak": share_of_peak(batches),
        "bound": max(batches, key=lambda batch: batch.predicted_s or 0.0).bound if batches else None,
        "batches": len(batches),
        "timings": {
            "receive_s": receive_s,
            "tokenize_s": tokenize_s,
            "queue_s": queue_s,
            "compute_s": compute_s,
        },
    }


def share_of_peak(batches: Sequence[BatchRecord]) -> float | None:
    """Model FLOPs utilization of these batches, None when a peak is not measured."""
    if len(batches) == 1:
        return ratio(batches[0].flops, possible_flops(batches[0]))
    possible = [possible_flops(batch) for batch in batches]
    return ratio(sum(batch.flops for batch in batches), sum(possible)) if all(possible) else None


def predicted_s(batches: Sequence[BatchRecord]) -> float | None:
    """Predicted seconds of these batches, added up; None when one has no prediction."""
    if len(batches) == 1:
        return batches[0].predicted_s
    total = 0.0
    for batch in batches:
        if batch.predicted_s is None:
            return None
        total += batch.predicted_s
    return total if batches else None
