"""What was measured of plans, and how they stand to the first of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ridgeline_server.measuring.messages import Prepare
from ridgeline_server.measuring.spec import PlanSpec
from ridgeline_server.runtimes.grid import Shape

_PERCENTILES = (50, 90, 99)


@dataclass(slots=True, eq=False)
class Measured:
    """One plan and what was measured of it. A list an entry a round, so that entries of a round belong together.

    texts_per_s: rate of each round's pass
    alone_s:     seconds of each round's single texts
    shape_s:     seconds of each round's batches, by shape
    failure:     why it could not be measured, or stopped
    """

    wanted: PlanSpec
    prepare: Prepare
    texts_per_s: dict[int, float] = field(default_factory=dict)
    alone_s: dict[int, tuple[float, ...]] = field(default_factory=dict)
    shape_s: dict[Shape, dict[int, tuple[float, ...]]] = field(default_factory=dict)
    memory_bytes: int = 0
    failure: str | None = None


def as_json(measured: Measured, first: Measured) -> dict[str, Any]:
    """Everything of a plan, in seconds, texts per second and bytes; ratios are above 1 where it beats the first."""
    plan = measured.prepare.plan
    return {
        "name": measured.wanted.name,
        "bundle": str(measured.wanted.bundle),
        "variant": plan.variant,
        "runtime": plan.runtime,
        "precision": plan.precision,
        "device": str(plan.device),
        "threads": plan.threads,
        "streams": plan.concurrency,
        "why": plan.why,
        "failure": measured.failure,
        "tokens": int(sum(len(tokens.ids) for tokens in measured.prepare.timed)),
        "memory_bytes": measured.memory_bytes or None,
        "throughput": _throughput(measured, first),
        "alone": _latency(measured.alone_s, first.alone_s),
        "shapes": [
            {"texts": shape[0], "tokens": shape[1], **(_latency(rounds, first.shape_s.get(shape, {})) or {})}
            for shape, rounds in measured.shape_s.items()
            if rounds
        ],
    }


def _throughput(measured: Measured, first: Measured) -> dict[str, Any] | None:
    rates = list(measured.texts_per_s.values())
    if not rates:
        return None
    pairs = [(rate, first.texts_per_s[n]) for n, rate in measured.texts_per_s.items() if n in first.texts_per_s]
    return {
        "texts_per_s": statistics.median(rates),
        "spread": _spread(rates),
        "passes": rates,
        "ratio": _ratio([rate / reference for rate, reference in pairs]),
    }


def _latency(rounds: dict[int, tuple[float, ...]], first: dict[int, tuple[float, ...]]) -> dict[str, Any] | None:
    seconds = [each for taken in rounds.values() for each in taken]
    if not seconds:
        return None
    medians = {number: statistics.median(taken) for number, taken in rounds.items()}
    ratios = [statistics.median(first[number]) / median for number, median in medians.items() if number in first]
    return {
        **{f"p{at}_s": float(np.percentile(seconds, at)) for at in _PERCENTILES},
        "runs": len(seconds),
        "spread": _spread(list(medians.values())),
        "ratio": _ratio(ratios),
    }


def _ratio(ratios: Sequence[float]) -> dict[str, float] | None:
    """Of pairs from the same rounds: their median, and the least and the largest."""
    if not ratios:
        return None
    return asdict(Ratio(statistics.median(ratios), min(ratios), max(ratios)))


def _spread(values: Sequence[float]) -> float | None:
    """Half the range over the median; None for a single value."""
    return (max(values) - min(values)) / 2 / statistics.median(values) if len(values) > 1 else None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much faster a plan is than the first: median of the rounds' ratios, and their range."""

    median: float
    least: float
    most: float
