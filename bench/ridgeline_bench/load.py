"""What both ways of making load share: connections, records, timeouts, the window, the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe

from ridgeline_bench.connection import Connection
from ridgeline_bench.plan import REFUSED, REFUSED_STATUS, RESET, TIMEOUT, UNREACHABLE, Outcome, Plan, Progress

_SWEEP_S = 0.1
_PROGRESS_S = 0.5
_CUT_SHORT_S = 2.0


class Load(ABC):
    """A run of load against one address; `run` is its only entry, the rest are its callbacks."""

    def __init__(self, plan: Plan, pipe: Pipe) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self.is_sending = True
        self.connections: set[Connection] = set()
        self.opening = 0
        self.running = 0
        self._pipe = pipe
        self._next_request = 0
        self._errors = 0
        self._replies_before = 0
        self._cpu_before = 0.0
        self._give_up_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, begin: float) -> Outcome:
        """Make the load from `begin` on; returns when every request has a reply or has failed."""
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self.outcome.measured_from = begin + self.plan.warmup_s
        self.outcome.ended = self.outcome.measured_from + self.plan.duration_s
        self._loop.add_reader(self._pipe.fileno(), self._cut_short)
        # Timers may fire up to a millisecond early; a request sent before the window would not be measured.
        while (left := begin - time.monotonic()) > 0:
            await asyncio.sleep(left)
        self.call_at(self.outcome.measured_from, self._open_window)
        self.call_at(self.outcome.ended, self._close_window)
        self.sweep()
        self._tell()
        self.start()
        await self._finished
        self._loop.remove_reader(self._pipe.fileno())
        for connection in list(self.connections):
            connection.close()
        return self.outcome

    @abstractmethod
    def start(self) -> None:
        """Begin with the load."""

    @abstractmethod
    def idle(self, connection: Connection) -> None:
        """The connection can take a request."""

    @abstractmethod
    def lost(self, failed: bool) -> None:
        """A connection has ended; `failed`: by an error, or it could not even be opened."""

    @abstractmethod
    def waiting(self) -> int:
        """Requests that wait for a connection."""

    def call_at(self, instant: float, callback: Callable[[], None]) -> None:
        """Call back at an instant of CLOCK_MONOTONIC."""
        self._loop.call_later(max(0.0, instant - time.monotonic()), callback)

    def open_connection(self, delay_s: float = 0.0) -> None:
        self.opening += 1
        task = self._loop.create_task(self._connect(delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def record(self, sent: float, code: int, tokens: int = 0, written: float | None = None) -> None:
        """Note a reply or an error; `written` None: it never was."""
        now = time.monotonic()
        outcome = self.outcome
        outcome.sent.append(sent)
        outcome.written.append(now if written is None else written)
        outcome.done.append(now)
        outcome.codes.append(code)
        outcome.tokens.append(tokens)
        if not 200 <= code < 300 and code != REFUSED_STATUS:
            self._errors += 1

    def opened(self, connection: Connection) -> None:
        self.opening -= 1
        self.outcome.connections_opened += 1
        self.connections.add(connection)
        self.idle(connection)

    def send(self, connection: Connection, sent: float, now: float) -> None:
        """Send the next request; its latency counts from `sent`."""
        self.running += 1
        requests = self.plan.requests
        request = requests[self._next_request]
        self._next_request = (self._next_request + 1) % len(requests)
        connection.send(request, sent, now, sent + self.plan.timeout_s)

    def replied(self, connection: Connection, code: int, tokens: int, timing: bytes | None) -> None:
        self.running -= 1
        self.record(connection.sent, code, tokens, connection.written)
        if code == REFUSED_STATUS and not connection.has_retry_after:
            self.outcome.refused_without_retry_after += 1
        if timing is not None and 200 <= code < 300 and self._is_measured(connection.sent):
            self._add_timing(timing)
        if connection.reusable and (self.is_sending or self.waiting()):
            self.idle(connection)
        else:
            connection.close()
            self.finish_if_done()

    def closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self._finished.done():
            return
        if self.is_sending or self.waiting():
            self.lost(connection.failed)
        self.finish_if_done()

    async def _connect(self, delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        plan, began = self.plan, time.monotonic()
        if not self.is_sending and not self.waiting():
            self.opening -= 1
            self.finish_if_done()
            return
        try:
            async with asyncio.timeout(plan.timeout_s):
                await self._loop.create_connection(lambda: Connection(self), plan.address, plan.port)
        except TimeoutError:
            self._connect_failed(began, TIMEOUT)
        except ConnectionRefusedError:
            self._connect_failed(began, REFUSED)
        except ConnectionResetError:
            self._connect_failed(began, RESET)
        except OSError:
            self._connect_failed(began, UNREACHABLE)

    def _connect_failed(self, began: float, code: int) -> None:
        self.opening -= 1
        self.failed_to_connect(began, code)
        self.lost(failed=True)
        self.finish_if_done()

    def failed_to_connect(self, began: float, code: int) -> None:
        """Note the request that would have been sent."""
        self.record(began, code)

    def _is_measured(self, sent: float) -> bool:
        return self.outcome.measured_from <= sent < self.outcome.ended

    def _add_timing(self, timing: bytes) -> None:
        timings = self.outcome.timings
        self.outcome.timed += 1
        for entry in timing.decode("latin-1").split(","):
            name, _, duration = entry.strip().partition(";dur=")
            try:
                timings[name] = timings.get(name, 0.0) + float(duration) / 1e3
            except ValueError:
                continue

    def _open_window(self) -> None:
        self._replies_before = len(self.outcome.done)
        self._cpu_before = time.process_time()

    def _close_window(self) -> None:
        if not self.is_sending:
            return
        self.is_sending = False
        self.outcome.cpu_s = time.process_time() - self._cpu_before
        self.outcome.replies_in_window = len(self.outcome.done) - self._replies_before
        for connection in list(self.connections):
            if not connection.busy:
                connection.close()
        self.finish_if_done()

    def _cut_short(self) -> None:
        """The parent wants the results so far, or is gone."""
        self._loop.remove_reader(self._pipe.fileno())
        now = time.monotonic()
        self._give_up_at = now + _CUT_SHORT_S
        if self.is_sending:
            self.outcome.ended = min(now, self.outcome.ended)
            self._close_window()

    def sweep(self) -> None:
        """Ten times a second: fail what has taken too long."""
        now = time.monotonic()
        for connection in list(self.connections):
            if connection.busy and connection.deadline < now:
                connection.fail(TIMEOUT)
        if now > self._give_up_at and not self._finished.done():
            self.outcome.unfinished = self.running + self.waiting()
            self._finished.set_result(None)
        if not self._finished.done():
            self._loop.call_later(_SWEEP_S, self.sweep)

    def _tell(self) -> None:
        if self._finished.done():
            return
        with contextlib.suppress(OSError):
            self._pipe.send(Progress(len(self.outcome.done), self._errors, self.running + self.waiting()))
        self._loop.call_later(_PROGRESS_S, self._tell)

    def finish_if_done(self) -> None:
        """End the run when nothing more is sent and nothing is open."""
        if self.is_sending or self._finished.done() or self.waiting() or self.running:
            return
        self._finished.set_result(None)
