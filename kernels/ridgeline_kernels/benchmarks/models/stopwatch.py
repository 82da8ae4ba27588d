"""How long a call takes as a server makes it: one after the other, host and device together."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from ridgeline_kernels.measuring.timer import Timing

Call = Callable[[], Any]


class Stopwatch(Protocol):
    """Times calls."""

    def rate(self, call: Call) -> Timing:
        """Seconds a call when calls follow each other without pause."""

    def latencies(self, call: Call, count: int) -> list[float]:
        """Seconds of `count` calls, each waited for."""


class WallStopwatch:
    """Times by the wall clock, with the device waited for at both ends of a round of calls."""

    def __init__(self, device: torch.device, seconds: float = 0.3, rounds: int = 7):
        """seconds: to spend on a rate, after warming up; rounds: into which they are split, for a median"""
        self._device = device
        self._seconds = seconds
        self._rounds = rounds

    def rate(self, call: Call) -> Timing:
        """See `Stopwatch`."""
        call()
        self._round(call, 1)
        once = self._round(call, 2) / 2
        count = max(1, math.ceil(self._seconds / self._rounds / max(once, 1e-9)))
        times = [self._round(call, count) / count for _ in range(self._rounds)]
        median = statistics.median(times)
        low, _, high = statistics.quantiles(times, n=4)
        return Timing(median, (high - low) / (2 * median), graph=False)

    def latencies(self, call: Call, count: int) -> list[float]:
        """See `Stopwatch`."""
        for _ in range(min(count, 20)):
            self._round(call, 1)
        return [self._round(call, 1) for _ in range(count)]

    def _round(self, call: Call, count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            call()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - begin


def quantile(values: list[float], share: float) -> float:
    """The least of the values that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
