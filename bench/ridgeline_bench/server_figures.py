"""What a Ridgeline server says of itself: its counters before and after the run. Other servers say nothing here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ridgeline_bench.target import Target, get

_TIMEOUT_S = 3.0
_SAMPLE = re.compile(r"^(ridgeline_(?:flops|tokens|batches)_total)(?:\{(.*)\})? ([0-9.eE+-]+|NaN)")
_KIND = re.compile(r'(?:^|,)kind="([^"]*)"')

Counters = Mapping[tuple[str, str], float]


def read_counters(target: Target) -> Counters | None:
    """FLOPs, tokens and batches by kind from /metrics, summed over models and replicas; None when there are none."""
    body = get(target, "/metrics", _TIMEOUT_S)
    return None if body is None else parse_counters(body.decode("utf-8", "replace"))


def parse_counters(text: str) -> Counters | None:
    """Samples of Prometheus' text format by (name, kind)."""
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        kind = _KIND.search(sample[2] or "")
        key = (sample[1], kind[1] if kind else "")
        found[key] = found.get(key, 0.0) + float(sample[3])
    return found or None


def figures_between(before: Counters | None, after: Counters | None) -> dict[str, Any] | None:
    """MFU, HFU and padding waste of what the server executed between two readings.

    mfu = real FLOPs / FLOPs that its devices could have done while they were busy; null where no peak is measured.
    None when the server has no such counters.
    """
    if before is None or after is None:
        return None
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    flops = {kind: grown.get(("ridgeline_flops_total", kind), 0.0) for kind in ("real", "executed", "possible")}
    tokens = {kind: grown.get(("ridgeline_tokens_total", kind), 0.0) for kind in ("real", "padding")}
    return {
        "mfu": _ratio(flops["real"], flops["possible"]),
        "hfu": _ratio(flops["executed"], flops["possible"]),
        "padding_waste": _ratio(tokens["padding"], tokens["real"] + tokens["padding"]),
        "flops": flops["real"],
        "executed_flops": flops["executed"],
        "real_tokens": tokens["real"],
        "batches": grown.get(("ridgeline_batches_total", ""), 0.0),
    }


def read_peaks(target: Target) -> list[dict[str, Any]]:
    """The peaks that the server's figures are held against, as /report lists them; [] when it does not."""
    body = get(target, "/report", _TIMEOUT_S)
    try:
        peaks = json.loads(body or b"{}")["peaks"]
    except (ValueError, LookupError, TypeError):
        return []
    return [peak for peak in peaks if isinstance(peak, dict)] if isinstance(peaks, list) else []


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
