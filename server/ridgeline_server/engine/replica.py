"""A replica: one worker process, watched, and started again whenever it dies."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Protocol

from ridgeline_server.engine.backoff import Backoff
from ridgeline_server.engine.dispatch import most_in_flight
from ridgeline_server.engine.guard import End, Guard
from ridgeline_server.engine.job import Assignment
from ridgeline_server.engine.messages import Answer, Done, Failed, Load, Loaded, LoadFailed
from ridgeline_server.engine.process import WorkerProcess, describe_exit, spawn_worker
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.grid import Shape

log = logging.getLogger(__name__)

# -P: modules come from the installation, never from the working directory.
WORKER_COMMAND = (sys.executable, "-P", "-m", "ridgeline_server.engine.worker")

_STOP_GRACE_S = 2.0
_LEAST_BOUND_S = 3.0
_STUCK_AFTER_RUNS = 20
# Signals by which people and the kernel end a process; a crash of the runtime shows others (SEGV, ABRT, BUS, …).
_OUTSIDE_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class ReplicaState(Enum):
    """Where a replica stands. UNRESPONSIVE: its worker gives no sign of life; it is READY again when it does."""

    LOADING = "loading"
    READY = "ready"
    UNRESPONSIVE = "unresponsive"
    DOWN = "down"
    STOPPED = "stopped"


class Listener(Protocol):
    """What a replica tells its model; all calls come from the event loop."""

    def on_loaded(self, replica: Replica) -> None: ...

    def on_load_failed(self, replica: Replica, message: str) -> None: ...

    def on_done(self, replica: Replica, assignment: Assignment, done: Done) -> None: ...

    def on_failed(self, replica: Replica, assignment: Assignment, message: str) -> None: ...

    def on_died(self, replica: Replica, lost: list[Assignment], reason: str, is_outside_kill: bool) -> None: ...

    def on_silence(self, replica: Replica) -> None: ...


class Replica:
    """Supervises one worker process and carries batches to it."""

    def __init__(self, index: int, load: Load, listener: Listener, command: Sequence[str] = WORKER_COMMAND) -> None:
        self.index = index
        self.load = load
        self.state = ReplicaState.LOADING
        self.in_flight: dict[int, Assignment] = {}
        self._most_in_flight = most_in_flight(load.plan.concurrency)
        self.batch_s: dict[Shape, float] = {}
        self.restarts = 0
        self._listener = listener
        self._command = command
        self._worker: WorkerProcess | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._backoff = Backoff()
        self._guard: Guard | None = None
        self._ready_since: float | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is no worker."""
        return None if self._worker is None else self._worker.pid

    @property
    def failed_starts(self) -> int:
        """How often in a row the replica failed to come up, as far as that is its own doing."""
        return self._backoff.failed_starts

    @property
    def peak_flops_per_s(self) -> float | None:
        return self.load.peak_flops_per_s

    def has_room(self) -> bool:
        """True when another batch may be sent: the slots run theirs, and some wait behind them."""
        return len(self.in_flight) < self._most_in_flight and self.takes_batches()

    def takes_batches(self) -> bool:
        """True when it serves at all, now or as soon as it has room: no batch on it must run alone."""
        is_ready = self.state is ReplicaState.READY
        return is_ready and not any(assignment.is_alone for assignment in self.in_flight.values())

    def start(self) -> None:
        """Begin to supervise."""
        self._supervision = asyncio.get_running_loop().create_task(self._supervise())

    def send(self, assignment: Assignment, batch: Batch) -> None:
        """Hand a batch to the worker; its answer comes through the listener."""
        assert self._worker is not None and self._guard is not None, "batches go to ready replicas only"
        bound_s = self._bound_s(batch)
        self._worker.send(batch)  # lost when the worker is gone: the supervision sees its end and retries
        self.in_flight[assignment.id] = assignment
        self._guard.sent(assignment.id, bound_s)

    async def stop(self) -> None:
        """End the worker: it exits when its connection closes, and is killed when it does not."""
        self.state = ReplicaState.STOPPED
        self._stopping.set()
        if self._supervision is None:
            return
        if self._worker is not None:
            self._worker.hang_up()
        done, _ = await asyncio.wait([self._supervision], timeout=_STOP_GRACE_S)
        if not done:
            if self._worker is not None:
                self._worker.kill()
            await self._supervision

    async def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                end = await self._live_once()
            except Exception as error:  # no process to be had, say: the next try may succeed
                log.exception("replica %d cannot run its worker", self.index)
                end = End(f"its worker cannot run: {error}", is_outside_kill=False)
            if not self._stopping.is_set():
                log.error("replica %d: %s; starting it again", self.index, end.reason)
                served_s = None if self._ready_since is None else time.monotonic() - self._ready_since
                self._backoff.died(served_s, is_outside_kill=end.is_outside_kill)
                self.state = ReplicaState.DOWN
                self.restarts += 1
                self._lose_in_flight(end)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._backoff.wait_s)
        self._lose_in_flight(End("the server is stopping", is_outside_kill=True))

    async def _live_once(self) -> End:
        """One worker from start to end."""
        self.state = ReplicaState.LOADING
        self._ready_since = None
        slots = self.load.plan.concurrency
        worker = self._worker = await spawn_worker(self._command, slots, self._handle, self._distrust)
        guard = self._guard = Guard(worker, self._on_silence)
        watching = asyncio.get_running_loop().create_task(guard.watch())
        try:
            if self._stopping.is_set():
                worker.hang_up()
            worker.send(self.load)
            status = await worker.wait()
            for batch_id in worker.running():
                if batch_id in self.in_flight:
                    self.in_flight[batch_id].is_started = True
            return guard.end or End(describe_exit(status), -status in _OUTSIDE_SIGNALS)
        finally:
            watching.cancel()
            worker.close()
            self._worker = self._guard = None

    def _on_silence(self, is_silent: bool) -> None:
        if is_silent and self.state is ReplicaState.READY:
            log.warning("replica %d gives no sign of life", self.index)
            self.state = ReplicaState.UNRESPONSIVE
            self._listener.on_silence(self)
        elif not is_silent and self.state is ReplicaState.UNRESPONSIVE:
            log.warning("replica %d is back", self.index)
            self.state = ReplicaState.READY
            self._listener.on_silence(self)

    def _distrust(self, complaint: str) -> None:
        if self._guard is not None:
            self._guard.put_down(End(f"its worker talks nonsense: {complaint}", is_outside_kill=False))

    def _handle(self, answer: Answer) -> None:
        try:
            self._take(answer)
        except Exception:  # a listener that fails must not end the connection
            log.exception("replica %d: an answer of its worker was lost", self.index)

    def _take(self, answer: Answer) -> None:
        match answer:
            case Loaded():
                self._loaded(answer)
            case LoadFailed():
                self._listener.on_load_failed(self, answer.message)
            case Done() | Failed():
                assignment = self.in_flight.pop(answer.batch_id, None)
                if self._guard is not None:
                    self._guard.answered(answer.batch_id)
                if assignment is None:
                    self._distrust(f"an answer to batch {answer.batch_id}, which it does not have")
                elif isinstance(answer, Done):
                    self._done(assignment, answer)
                else:
                    self._listener.on_failed(self, assignment, answer.message)
            case _:
                self._distrust(f"a message of type {type(answer).__name__}")

    def _loaded(self, loaded: Loaded) -> None:
        if self.state is not ReplicaState.LOADING:
            return
        if set(loaded.batch_s) != set(self.load.plan.grid.shapes):
            self._distrust("times of other shapes than its grid's")
            return
        self._backoff.came_up()
        if self._guard is not None:
            self._guard.loaded()
        self._ready_since = time.monotonic()
        self.batch_s = loaded.batch_s
        self.load = replace(self.load, peak_flops_per_s=loaded.peak_flops_per_s)
        self.state = ReplicaState.READY
        self._listener.on_loaded(self)

    def _done(self, assignment: Assignment, done: Done) -> None:
        try:
            self._listener.on_done(self, assignment, done)
        except Exception as error:  # an answer that cannot be used must not leave its requests without one
            log.exception("replica %d gave an answer that cannot be used", self.index)
            self._listener.on_failed(self, assignment, f"its answer cannot be used: {error}")

    def _lose_in_flight(self, end: End) -> None:
        lost = list(self.in_flight.values())
        self.in_flight.clear()
        try:
            self._listener.on_died(self, lost, end.reason, end.is_outside_kill)
        except Exception:  # the next worker must come, whatever becomes of this one's batches
            log.exception("replica %d: what its worker was running cannot be run again", self.index)

    def _bound_s(self, batch: Batch) -> float:
        """Seconds after which a batch is stuck: many times what its shape took at warm-up."""
        shape = self.load.plan.grid.shape_of(batch.lengths)
        slowest_s = max(self.batch_s.values(), default=0.0)
        return max(_LEAST_BOUND_S, _STUCK_AFTER_RUNS * self.batch_s.get(shape, slowest_s))
