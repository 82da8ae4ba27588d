"""The two ways of making load: a fixed number of connections, or arrivals at random instants."""

from __future__ import annotations

import random
import time
from collections import deque
from multiprocessing.connection import Connection as Pipe

from ridgeline_bench.connection import Connection
from ridgeline_bench.load import Load
from ridgeline_bench.plan import TIMEOUT, Plan

_RECONNECT_S = 0.02
# Timers of libuv have a resolution of 1 ms: an arrival that near is sent now rather than up to 1 ms late.
_EARLY_S = 0.0005


class ClosedLoop(Load):
    """A fixed number of connections; each sends its next request when the reply to the last one came."""

    def start(self) -> None:
        assert self.plan.concurrency is not None
        for _ in range(self.plan.concurrency):
            self.open_connection()

    def idle(self, connection: Connection) -> None:
        if self.plan.pause_s and connection.is_refused:
            connection.is_refused = False
            self.call_at(time.monotonic() + self.plan.pause_s, lambda: self._resume(connection))
            return
        now = time.monotonic()
        if not self.is_sending:
            connection.close()
        elif now < self.outcome.ended:
            self.send(connection, now, now)
        # else the timer that closes the window, and with it this connection, is a little late

    def _resume(self, connection: Connection) -> None:
        if connection in self.connections:
            self.idle(connection)

    def lost(self, failed: bool) -> None:
        if self.is_sending:
            self.open_connection(_RECONNECT_S if failed else 0.0)

    def waiting(self) -> int:
        return 0


class OpenLoop(Load):
    """Requests at random instants, whatever the server does; latency counts from the instant that was drawn.

    So a server that stalls is charged for every request that would have been sent meanwhile ("coordinated omission").
    Arrivals without a free connection open one, up to the plan's maximum, and wait beyond it.
    """

    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        super().__init__(plan, pipe)
        self._free: list[Connection] = []
        self._arrivals: deque[float] = deque()
        self._random = random.Random(plan.seed)
        self._next_arrival = 0.0

    def start(self) -> None:
        assert self.plan.rate is not None
        self._next_arrival = time.monotonic() + self._random.expovariate(self.plan.rate)
        self._arrive()

    def idle(self, connection: Connection) -> None:
        if self._arrivals:
            self._send(connection, self._arrivals.popleft())
        elif self.is_sending:
            self._free.append(connection)
        else:
            connection.close()

    def lost(self, failed: bool) -> None:
        if len(self._arrivals) > self.opening:
            self.open_connection(_RECONNECT_S if failed else 0.0)

    def closed(self, connection: Connection) -> None:
        if connection in self._free:
            self._free.remove(connection)
        super().closed(connection)

    def waiting(self) -> int:
        return len(self._arrivals)

    def failed_to_connect(self, began: float, code: int) -> None:
        if self._arrivals:
            self.record(self._arrivals.popleft(), code)

    def sweep(self) -> None:
        now = time.monotonic()
        while self._arrivals and self._arrivals[0] + self.plan.timeout_s < now:
            self.record(self._arrivals.popleft(), TIMEOUT)
        super().sweep()
        self.finish_if_done()

    def _arrive(self) -> None:
        assert self.plan.rate is not None
        if not self.is_sending:
            return
        now = time.monotonic()
        while self._next_arrival <= now + _EARLY_S and self._next_arrival < self.outcome.ended:
            self._dispatch(min(self._next_arrival, now))
            self._next_arrival += self._random.expovariate(self.plan.rate)
            now = time.monotonic()
        self._loop.call_later(max(0.0, self._next_arrival - now), self._arrive)

    def _dispatch(self, intended: float) -> None:
        if self._free:
            self._send(self._free.pop(), intended)
            return
        self._arrivals.append(intended)
        if self.opening >= len(self._arrivals):
            return
        if len(self.connections) + self.opening < self.plan.max_connections:
            self.open_connection()
        else:
            self.outcome.waited_for_connection += 1

    def _send(self, connection: Connection, intended: float) -> None:
        now = time.monotonic()
        self.send(connection, intended, now)
        lag = now - intended
        outcome = self.outcome
        outcome.lag_sum_s += lag
        outcome.lag_count += 1
        if lag > outcome.lag_max_s:
            outcome.lag_max_s = lag
