"""A replica: one worker process, started again whenever it dies."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Protocol

from ridgeline_server.engine.framing import FrameProtocol
from ridgeline_server.engine.job import Assignment
from ridgeline_server.engine.messages import Answer, Done, Failed, Load, Loaded, LoadFailed, Started
from ridgeline_server.request import Batch

log = logging.getLogger(__name__)

# -P: modules come from the installation, never from the working directory.
WORKER_COMMAND = (sys.executable, "-P", "-m", "ridgeline_server.engine.worker")

_FIRST_BACKOFF_S = 0.05
_LONGEST_BACKOFF_S = 10.0
_STOP_GRACE_S = 2.0
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
        if not self.in_flight:
            self._last_progress = time.monotonic()
        self.in_flight[assignment.id] = assignment
        self._connection.send(batch)  # lost when the worker is gone: the supervision sees its end and retries

    def kill_if_wedged(self, now: float, bound_s: float) -> None:
        """Kill a worker that has batches and has made no progress for `bound_s` seconds."""
        if self.in_flight and now - self._last_progress > bound_s and self._process is not None:
            log.error("replica %d made no progress for %.0f s: killed", self.index, bound_s)
            self._is_wedged = True
            self._process.kill()

    async def stop(self) -> None:
        """End the worker: it exits when its connection closes, and is killed when it does not."""
        self.state = ReplicaState.STOPPED
        if self._supervision is None:
            return
        self._close_connection()
        done, _ = await asyncio.wait([self._supervision], timeout=_STOP_GRACE_S)
        if not done:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
            await self._supervision

    async def _supervise(self) -> None:
        while self.state is not ReplicaState.STOPPED:
            self.state = ReplicaState.LOADING
            self._is_wedged = False
            self._process = await self._spawn()
            self.pid = self._process.pid
            status = await self._process.wait()
            self.pid = None
            # Answers that the worker sent before it ended may still have to be read.
            await asyncio.sleep(0)
            self._close_connection()
            if self.state is not ReplicaState.STOPPED:
                self._bury(status)
                await asyncio.sleep(self._backoff_s())
        self._fail_in_flight("the server is stopping", is_outside_kill=True)

    async def _spawn(self) -> asyncio.subprocess.Process:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        _, self._connection = await asyncio.get_running_loop().create_unix_connection(
            lambda: FrameProtocol(self._handle), sock=ours
        )
        if self.state is ReplicaState.STOPPED:
            self._close_connection()
        else:
            self._connection.send(self.load)
        return process

    def _handle(self, answer: Answer) -> None:
        self._last_progress = time.monotonic()
        match answer:
            case Loaded():
                self.failed_starts = 0
                self.load = replace(self.load, peak_flops_per_s=answer.peak_flops_per_s)
                if self.state is ReplicaState.LOADING:
                    self.state = ReplicaState.READY
                    self._listener.on_loaded(self)
            case LoadFailed():
                self._listener.on_load_failed(self, answer.message)
            case Started():
                self.in_flight[answer.batch_id].is_started = True
            case Done():
                self._listener.on_done(self, self.in_flight.pop(answer.batch_id), answer)
            case Failed():
                self._listener.on_failed(self, self.in_flight.pop(answer.batch_id), answer.message)

    def _bury(self, status: int) -> None:
        self.failed_starts += self.state is ReplicaState.LOADING
        self.state = ReplicaState.DOWN
        is_outside_kill = not self._is_wedged and status < 0 and -status in _OUTSIDE_SIGNALS
        reason = _describe(status, self._is_wedged)
        log.error("replica %d: %s; starting it again", self.index, reason)
        self._fail_in_flight(reason, is_outside_kill)

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
        return f"its worker was ended by {signal.Signals(-status).name}"
    return f"its worker exited with status {status}"
