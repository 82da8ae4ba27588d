"""Measured bandwidths: how fast a CPU's cores move bytes from and to memory and their caches, and a GPU its memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.peak import make_copy_probe

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

_CACHE_BYTES = 8 << 20
_STEPS = (16 << 20, 32 << 20, 64 << 20, 128 << 20)
_MEMORY_BYTES = 512 << 20
_BUDGET_S = 0.15
# A thread repeats small arrays until it has moved so much, so that handing it the work does not count.
_LEAST_BYTES = 64 << 20
# Below this a cache makes no difference that a model would show.
_LEAST_GAIN = 1.2


@dataclass(frozen=True, slots=True)
class Bandwidths:
    """Bytes per second of all threads together.

    cache_bytes_per_s, cache_bytes: of what stays in the caches, and how much does; None where that is no faster
    source: how they were measured
    """

    memory_bytes_per_s: float
    cache_bytes_per_s: float | None
    cache_bytes: int | None
    source: str


def measure_bandwidths(threads: int) -> Bandwidths:
    """Add arrays to others in place, 8 MiB to 512 MiB of them: two reads and a write of each element.

    The caches' rate is that of 8 MiB; they hold what moves nearer to it than to the rate of 512 MiB.
    """
    with ThreadPoolExecutor(threads) as pool:
        memory = _rate(pool, threads, _MEMORY_BYTES)
        cache = _rate(pool, threads, _CACHE_BYTES)
        source = f"best in-place sum of two arrays, numpy, {threads} thread{'s' * (threads > 1)}"
        if cache < _LEAST_GAIN * memory:
            return Bandwidths(memory, None, None, source)
        fitting = _CACHE_BYTES
        for size in _STEPS:
            if _rate(pool, threads, size) < sqrt(cache * memory):
                break
            fitting = size
    return Bandwidths(memory, cache, fitting, source)


def measure_gpu_bandwidths(plan: Plan) -> Bandwidths:
    """Negate 512 MiB on the plan's GPU through its runtime, from and to the GPU's memory."""
    from ridgeline_server.runtimes.onnx_runtime import OnnxRuntime

    rate = OnnxRuntime(plan).measure(make_copy_probe())
    return Bandwidths(rate, None, None, f"best negation of 512 MiB through {plan.runtime} on {plan.device}")


def _rate(pool: ThreadPoolExecutor, threads: int, total_bytes: int) -> float:
    """Best bytes per second of passes over arrays of so many bytes altogether."""
    elements = total_bytes // 8 // threads
    passes = max(1, _LEAST_BYTES // total_bytes)
    pairs = [(np.zeros(elements, np.float32), np.ones(elements, np.float32)) for _ in range(threads)]

    def sum_up(pair: Pair) -> None:
        for _ in range(passes):
            np.add(pair[0], pair[1], out=pair[1])

    best_s = float("inf")
    for pair in pairs:
        pair[0].fill(0.0)  # zeros are not in memory before they are written
    end = time.monotonic() + _BUDGET_S
    while time.monotonic() < end or best_s == float("inf"):
        started = time.perf_counter()
        list(pool.map(sum_up, pairs))
        best_s = min(best_s, time.perf_counter() - started)
    return 12.0 * elements * threads * passes / best_s
