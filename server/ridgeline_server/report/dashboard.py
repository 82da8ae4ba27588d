"""What the dashboard asks for every two seconds: the slots and batches since it last asked, and how the server is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from math import isfinite

from ridgeline_server.report.figures import Totals, ratio
from ridgeline_server.report.history import SLOT_S, SLOTS, STEPS, History, Slot
from ridgeline_server.report.percentiles import together
from ridgeline_server.request import BatchRecord, ModelInfo, ReplicaInfo, Roofline

WINDOW_SLOTS = 5
MOST_POINTS = 240
_SHARES = (0.5, 0.9, 0.99)


def tell(
    history: History, models: Sequence[ModelInfo], since: int, tasks_of: Callable[[ModelInfo], list[str]]
) -> dict[str, object]:
    """Everything that changes.

    since:    `next` of the answer before, 0 = everything there is; slots from there on are told
    tasks_of: names of the tasks that can be asked of a model
    """
    running = history.now()
    first = max(since if since <= running else 0, running - SLOTS, history.first)
    return {
        "slot_s": SLOT_S,
        "next": running,
        "window": _window(history, running),
        "slots": _columns(first, running, history.slots(first)),
        "batches": _points(history.batches(first)),
        "models": [{**_model(info), "tasks": tasks_of(info)} for info in models],
    }


def _window(history: History, running: int) -> dict[str, object]:
    """Rates and shares over the last complete slots."""
    first = max(running - WINDOW_SLOTS, history.first)
    slots = list(history.slots(first).values())
    seconds = (running - first) * SLOT_S
    answered = sum(slot.answered for slot in slots)
    totals = _sum(slot.batches for slot in slots)
    p50, p90, p99 = together(slot.seconds for slot in slots).at(*_SHARES)
    return {
        "seconds": seconds,
        "answered": answered,
        "requests_per_s": ratio(answered, seconds),
        "refused_per_s": ratio(sum(slot.refused for slot in slots), seconds),
        "failed_per_s": ratio(sum(slot.failed for slot in slots), seconds),
        "texts_per_s": ratio(totals.sequences, seconds),
        "tokens_per_s": ratio(totals.real_tokens, seconds),
        "flops_per_s": ratio(totals.flops, seconds),
        "batch_rows": ratio(totals.sequences, totals.batches),
        "p50_s": p50,
        "p90_s": p90,
        "p99_s": p99,
        "mfu": totals.mfu,
        "hfu": totals.hfu,
        "padding_waste": totals.padding_waste,
        "steps_s": {
            step: ratio(sum(slot.steps_s[place] for slot in slots), answered) for place, step in enumerate(STEPS)
        },
    }


def _columns(first: int, running: int, slots: dict[int, Slot]) -> dict[str, list[float | None]]:
    """A list for each figure, with an entry for each slot from `first` on, also for those without any event."""
    columns: dict[str, list[float | None]] = {}
    for index in range(first, running):
        for name, value in _figures(slots.get(index) or Slot(index)).items():
            columns.setdefault(name, []).append(_short(value))
    return columns


def _figures(slot: Slot) -> dict[str, float | None]:
    p50, p90, p99 = slot.seconds.at(*_SHARES)
    totals = slot.batches
    return {
        "requests_per_s": slot.answered / SLOT_S,
        "texts_per_s": totals.sequences / SLOT_S,
        "refused_per_s": slot.refused / SLOT_S,
        "failed_per_s": slot.failed / SLOT_S,
        "p50_s": p50,
        "p90_s": p90,
        "p99_s": p99,
        "mfu": totals.mfu,
        "hfu": totals.hfu,
        "padding_waste": totals.padding_waste,
        "queued": ratio(slot.queued, slot.samples),
        "most_queued": slot.most_queued if slot.samples else None,
        **{f"{step}_s": ratio(slot.steps_s[place], slot.answered) for place, step in enumerate(STEPS)},
    }


def _points(records: Sequence[BatchRecord]) -> dict[str, list[object]]:
    """A list for each fact, with an entry for each batch; of many, evenly chosen ones."""
    step = max(1, -(-len(records) // MOST_POINTS))
    chosen = records[::step]
    return {
        "model": [record.model for record in chosen],
        "rows": [record.rows for record in chosen],
        "shape": [record.shape for record in chosen],
        "real_tokens": [record.real_tokens for record in chosen],
        "flops": [_short(record.flops) for record in chosen],
        "executed_flops": [_short(record.executed_flops) for record in chosen],
        "latency_s": [_short(record.finished - record.started) for record in chosen],
        "predicted_s": [_short(record.predicted_s) for record in chosen],
    }


def _model(info: ModelInfo) -> dict[str, object]:
    replicas = info.replica_infos
    return {
        "name": info.name,
        "version": info.version,
        "model_id": info.model_id,
        "task": info.task,
        "mask_token": info.mask_token,
        "dim": info.dim,
        "max_tokens": info.max_tokens,
        "variant": info.variant,
        "runtime": info.runtime,
        "precision": info.precision,
        "why": info.why,
        "max_batch_tokens": info.max_batch_tokens,
        "queued_sequences": info.queued_sequences,
        "queued_tokens": info.queued_tokens,
        "replicas": [_replica(replica) for replica in replicas],
        "batch_flops_per_s": max((rate for rate in map(_batch_rate, replicas) if rate is not None), default=None),
        "roofline": next((_roofline(replica.roofline) for replica in replicas if replica.roofline is not None), None),
    }


def _replica(replica: ReplicaInfo) -> dict[str, object]:
    return {each.name: getattr(replica, each.name) for each in fields(replica) if each.name != "roofline"}


def _batch_rate(replica: ReplicaInfo) -> float | None:
    """FLOP/s that one batch can reach: its share of the replica's peak."""
    peak = replica.peak_flops_per_s
    return None if peak is None else peak / replica.parallel


def _roofline(roofline: Roofline) -> dict[str, object]:
    shapes = sorted(roofline.shapes, key=lambda each: each.flops)
    return {
        "is_complete": roofline.is_complete,
        "source": roofline.source,
        "flops": [_short(each.flops) for each in shapes],
        "seconds": [_short(each.seconds) for each in shapes],
        "bound": [each.bound for each in shapes],
    }


def _sum(parts: Iterable[Totals]) -> Totals:
    """Sums over parts, as far as the window needs them."""
    whole = Totals()
    for part in parts:
        whole.batches += part.batches
        whole.sequences += part.sequences
        whole.real_tokens += part.real_tokens
        whole.padded_tokens += part.padded_tokens
        whole.flops += part.flops
        whole.measured_flops += part.measured_flops
        whole.measured_executed_flops += part.measured_executed_flops
        whole.possible_flops += part.possible_flops
    return whole


def _short(value: float | None) -> float | None:
    """Four significant digits: what a plot can show, in few bytes."""
    return float(f"{value:.4g}") if value is not None and isfinite(value) else None
