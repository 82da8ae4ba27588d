"""What is done to workers: killed, or stopped for a while, at random instants that a seed decides."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blow:
    """at: instant of CLOCK_MONOTONIC; stopped_s: 0 = killed with SIGKILL, else SIGSTOP and, so much later, SIGCONT."""

    at: float
    pid: int
    stopped_s: float


class Attacker:
    """Strikes living workers until it is cancelled; all that it stopped goes on afterwards."""

    def __init__(self, workers: Callable[[], list[int]], seed: int, every_s: float, longest_stop_s: float) -> None:
        self.blows: list[Blow] = []
        self._workers = workers
        self._random = random.Random(seed)
        self._every_s = every_s
        self._longest_stop_s = longest_stop_s
        self._stopped: set[int] = set()

    async def run(self) -> None:
        """Strike at Poisson instants, `every_s` apart on average; half of the blows kill."""
        wakers: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(self._random.expovariate(1 / self._every_s))
                stopped_s = self._random.choice((0.0, self._random.uniform(0.1, self._longest_stop_s)))
                choice = self._random.random()
                workers = self._workers()
                if not workers:
                    continue
                pid = workers[int(choice * len(workers))]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if stopped_s else signal.SIGKILL)
                    self.blows.append(Blow(time.monotonic(), pid, stopped_s))
                if stopped_s:
                    self._stopped.add(pid)
                    waker = asyncio.create_task(self._wake(pid, stopped_s))
                    wakers.add(waker)
                    waker.add_done_callback(wakers.discard)
        finally:
            for pid in list(self._stopped):
                self._continue(pid)

    async def _wake(self, pid: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._continue(pid)

    def _continue(self, pid: int) -> None:
        self._stopped.discard(pid)
        # It may have been replaced meanwhile; its number belongs to nobody else so soon.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
