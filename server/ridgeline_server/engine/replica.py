"""A replica: one worker process, started again whenever it dies."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from typing import Protocol

from ridgeline_server.engine.framing import FrameProtocol
from ridgeline_server.engine.job import Assignment
from ridgeline_server.engine.messages import Answer, Done, Failed, Load, Loaded, LoadFailed, Started
from ridgeline_server.request import Batch
from ridgeline_server.runtimes.grid import Shape

log = logging.getLogger(__name__)

# -P: modules come from the installation, never from the working directory.
WORKER_COMMAND = (sys.executable, "-P", "-m", "ridgeline_server.engine.worker")

_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 10.0
_STOP_GRACE_S = 2.0
_LONGEST_LOAD_S = 900.0
_WEDGED_AFTER_RUNS = 20
# Signals by which people and the kernel end a process; a crash of the runtime shows others (SEGV, ABRT, BUS, …).
_OUTSIDE_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class ReplicaState(Enum):
    """Where a replica stands."""

    LOADING = "loading"
    READY = "ready"
    DOWN = "down"
    STOPPED = "stopped"


class Listener(Protocol):
    """What a replica tells its model; all calls come from the event loop."""

    def on_loaded(self, replica: Replica) -> None: ...

    def on_load_failed(self, replica: Replica, message: str) -> None: ...

    def on_done(self, replica: Replica, assignment: Assignment, done: Done) -> None: ...

    def on_failed(self, replica: Replica, assignment: Assignment, message: str) -> None: ...

    def on_died(self, replica: Replica, lost: list[Assignment], reason: str, is_outside_kill: bool) -> None: ...


class Replica:
    """Supervises one worker process and carries batches to it."""

    def __init__(self, index: int, load: Load, listener: Listener, command: Sequence[str] = WORKER_COMMAND) -> None:
        self.index = index
        self.load = load
        self.state = ReplicaState.LOADING
        self.in_flight: dict[int, Assignment] = {}
        self.failed_starts = 0
        self.pid: int | None = None
        self._listener = listener
        self._command = command
        self._connection: FrameProtocol | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._last_progress = 0.0
        self.batch_s: dict[Shape, float] = {}
        self._stopping = asyncio.Event()
        self._is_wedged = False

    @property
    def peak_flops_per_s(self) -> float | None:
        return self.load.peak_flops_per_s

    def has_room(self) -> bool:
        """True when another batch may be sent: each slot runs one and has one waiting behind it."""
        if self.state is not ReplicaState.READY or any(a.is_alone for a in self.in_flight.values()):
            return False
        return len(self.in_flight) < 2 * self.load.plan.concurrency

    def start(self) -> None:
        """Begin to supervise."""
        self._supervision = asyncio.get_running_loop().create_task(self._supervise())

    def send(self, assignment: Assignment, batch: Batch) -> None:
        """Hand a batch to the worker; its answer comes through the listener."""
        assert self._connection is not None, "batches go to ready replicas only"
        assignment.since = time.monotonic()
        self.in_flight[assignment.id] = assignment
        self._connection.send(batch)  # lost when the worker is gone: the supervision sees its end and retries

    def kill_if_wedged(self, now: float, least_bound_s: float) -> None:
        """Kill a worker that runs one batch for too long: `least_bound_s`, or many times its slowest warm-up run.

        A batch that waits in the worker counts from the worker's last sign of life.
        """
        if self.state is ReplicaState.LOADING:
            is_wedged = self._process is not None and now - self._last_progress > _LONGEST_LOAD_S
        else:
            bound_s = max(least_bound_s, _WEDGED_AFTER_RUNS * max(self.batch_s.values(), default=0.0))
            since = [a.since if a.is_started else max(a.since, self._last_progress) for a in self.in_flight.values()]
            is_wedged = bool(since) and now - min(since) > bound_s
        if is_wedged:
            log.error("replica %d hangs: its worker is killed", self.index)
            self._is_wedged = True
            self._kill()

    async def stop(self) -> None:
        """End the worker: it exits when its connection closes, and is killed when it does not."""
        self.state = ReplicaState.STOPPED
        self._stopping.set()
        if self._supervision is None:
            return
        self._close_connection()
        done, _ = await asyncio.wait([self._supervision], timeout=_STOP_GRACE_S)
        if not done:
            self._kill()
            await self._supervision

    async def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                reason, is_outside_kill = await self._live_once()
            except Exception as error:  # no process to be had, say: the next try may succeed
                log.exception("replica %d cannot run its worker", self.index)
                reason, is_outside_kill = f"its worker cannot run: {error}", False
                self._kill()
            self._close_connection()
            if not self._stopping.is_set():
                log.error("replica %d: %s; starting it again", self.index, reason)
                self.failed_starts += self.state is ReplicaState.LOADING
                self.state = ReplicaState.DOWN
                self._fail_in_flight(reason, is_outside_kill)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), self._backoff_s())
        self._fail_in_flight("the server is stopping", is_outside_kill=True)

    async def _live_once(self) -> tuple[str, bool]:
        """One worker from start to end: how it ended, and whether somebody else ended it."""
        self.state = ReplicaState.LOADING
        self._is_wedged = False
        self._last_progress = time.monotonic()
        self._process = await self._spawn()
        self.pid = self._process.pid
        status = await self._process.wait()
        self.pid = None
        # Answers that the worker sent before it ended may still have to be read.
        await asyncio.sleep(0)
        return _describe(status, self._is_wedged), not self._is_wedged and -status in _OUTSIDE_SIGNALS

    async def _spawn(self) -> asyncio.subprocess.Process:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the server, which drains before it ends its workers
            )
        _, self._connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameProtocol(self._handle), sock=ours
        )
        if self._stopping.is_set():
            self._close_connection()
        else:
            self._connection.send(self.load)
        return process

    def _handle(self, answer: Answer) -> None:
        self._last_progress = time.monotonic()
        match answer:
            case Loaded():
                self.failed_starts = 0
                self.batch_s = answer.batch_s
                self.load = replace(self.load, peak_flops_per_s=answer.peak_flops_per_s)
                if self.state is ReplicaState.LOADING:
                    self.state = ReplicaState.READY
                    self._listener.on_loaded(self)
            case LoadFailed():
                self._listener.on_load_failed(self, answer.message)
            case Started():
                assignment = self.in_flight[answer.batch_id]
                assignment.is_started, assignment.since = True, self._last_progress
            case Done():
                self._done(self.in_flight.pop(answer.batch_id), answer)
            case Failed():
                self._listener.on_failed(self, self.in_flight.pop(answer.batch_id), answer.message)

    def _done(self, assignment: Assignment, done: Done) -> None:
        try:
            self._listener.on_done(self, assignment, done)
        except Exception as error:  # an answer that cannot be used must not leave its requests without one
            log.exception("replica %d gave an answer that cannot be used", self.index)
            self._listener.on_failed(self, assignment, f"its answer cannot be used: {error}")

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _fail_in_flight(self, reason: str, is_outside_kill: bool) -> None:
        lost = list(self.in_flight.values())
        self.in_flight.clear()
        self._listener.on_died(self, lost, reason, is_outside_kill)

    def _backoff_s(self) -> float:
        """Nothing for a worker that was up; longer each time it dies before it is."""
        if not self.failed_starts:
            return 0.0
        return float(min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**self.failed_starts))

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _describe(status: int, is_wedged: bool) -> str:
    if is_wedged:
        return "its worker hung and was killed"
    if status < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"its worker was ended by {names.get(-status, f'signal {-status}')}"
    return f"its worker exited with status {status}"
