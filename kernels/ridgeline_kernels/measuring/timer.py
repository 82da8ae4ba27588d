"""How long calls take on a GPU: medians over replays of a CUDA graph, with the host's share told apart."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

Calls = Sequence[Callable[[], Any]]
Timer = Callable[[Calls], "Timing"]
"""Gets calls that do the same work on different inputs and says what one of them takes."""

_LEAST_MEASURED_S = 1e-3
_MOST_LAUNCHES = 512


@dataclass(frozen=True)
class Timing:
    """median_s: of one call; spread: half the interquartile range over the median; host_s: until a call returned to
    Python, launches and all; graph: timed as replays of a CUDA graph, else call after call, where a slow host shows."""

    median_s: float
    spread: float = 0.0
    host_s: float = 0.0
    graph: bool = True


class GpuTimer:
    """Times calls on the current CUDA device.

    The calls are captured in turn into one CUDA graph, so that the host's time is not in the figure, and so often that
    a replay takes a millisecond or more; every call's outputs are kept until the last call, so that they lie apart.
    """

    def __init__(self, seconds: float = 0.15):
        self._seconds = seconds

    def __call__(self, calls: Calls) -> Timing:
        """Time the calls. Raises what they raise."""
        host_s, rough_s = self._warm_up(calls)
        wanted = math.ceil(_LEAST_MEASURED_S / max(rough_s * len(calls), 1e-9))
        rounds = max(1, min(wanted, _MOST_LAUNCHES // len(calls)))
        try:
            replay, is_graph = self._captured(calls, rounds), True
        except Exception:
            torch.cuda.synchronize()
            replay, is_graph = self._one_by_one(calls, rounds), False
        seconds = [total / (rounds * len(calls)) for total in self._replayed(replay)]
        median = statistics.median(seconds)
        low, _, high = statistics.quantiles(seconds, n=4)
        return Timing(median, (high - low) / (2 * median), host_s, is_graph)

    def _warm_up(self, calls: Calls) -> tuple[float, float]:
        """Compile, allocate; seconds of the host and of the device for one call."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for call in calls:
                call()
            call()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for call in calls:
            call()
        host_s = (time.perf_counter() - begin) / len(calls)
        torch.cuda.synchronize()
        return host_s, (time.perf_counter() - begin) / len(calls)

    def _captured(self, calls: Calls, rounds: int) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(rounds):
                kept = [call() for call in calls]
        del kept
        replay: Callable[[], None] = graph.replay
        return replay

    def _one_by_one(self, calls: Calls, rounds: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(rounds):
                for call in calls:
                    call()

        return run

    def _replayed(self, replay: Callable[[], None]) -> list[float]:
        """Seconds of each of several replays; as many as fit into the timer's seconds, 7 at least."""
        first = self._events(replay, 2)[-1]
        return self._events(replay, int(min(max(self._seconds / first, 7), 200)))

    def _events(self, replay: Callable[[], None], count: int) -> list[float]:
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        marks[0].record()
        for mark in marks[1:]:
            replay()
            mark.record()
        torch.cuda.synchronize()
        return [max(begin.elapsed_time(end) / 1e3, 1e-9) for begin, end in pairwise(marks)]
