"""CPU seconds of a call, by repetition."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

_LEAST_S = 0.05
_REPEATS = 5


def seconds_per_call(call: Callable[[], object]) -> float:
    """CPU seconds of this process for one call: the best of five runs of at least 50 ms each.

    The best, since a shared machine's caches and interrupts only ever add.
    """
    calls = _enough(call)
    return min(_run(call, calls) for _ in range(_REPEATS)) / calls


async def seconds_per_await(call: Callable[[], Awaitable[object]]) -> float:
    """As seconds_per_call, for something to await, on the running loop."""
    calls, took = 1, 0.0
    while took < _LEAST_S:
        calls *= 2
        took = await _run_async(call, calls)
    return min([await _run_async(call, calls) for _ in range(_REPEATS)]) / calls


def _enough(call: Callable[[], object]) -> int:
    calls = 1
    while _run(call, calls) < _LEAST_S:
        calls *= 2
    return calls


def _run(call: Callable[[], object], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - began


async def _run_async(call: Callable[[], Awaitable[object]], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await call()
    return time.process_time() - began
