"""Requests that await the engine, and those that nobody awaits any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ridgeline_server.errors import TOO_LATE, DeadlineError
from ridgeline_server.http.errors import ClientGoneError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SWEEP_EVERY_S = 0.05
# Sweeps may take this share of the time.
_SWEEP_SHARE = 0.01
# The engine answers deadlines itself; past this it is presumed unable to.
DEADLINE_GRACE_S = 1.0


class Waiter:
    """A task that awaits the engine for a client. `reason` says why it was cancelled, if a sweep did that."""

    __slots__ = ("deadline", "is_old", "reason", "receive", "task")

    def __init__(self, receive: Receive, deadline: float | None, task: asyncio.Task[Any] | None) -> None:
        self.receive = receive
        self.deadline = deadline
        self.task = task
        self.is_old = False
        self.reason: Exception | None = None


class WaitingRoom:
    """Cancels tasks whose client left, or whose deadline is well past.

    One timer sweeps them all: a task for each, suspended in `receive`, costs more than all else that HTTP does. What
    is answered between two sweeps is never looked at.
    """

    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, receive: Receive, deadline: float | None) -> Waiter:
        """Watch over the current task until it leaves."""
        waiter = Waiter(receive, deadline, asyncio.current_task())
        self._waiters.add(waiter)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(SWEEP_EVERY_S, self._sweep, loop)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """The task has its answer."""
        self._waiters.discard(waiter)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = time.monotonic()
        for waiter in list(self._waiters):
            if waiter.deadline is not None and begun > waiter.deadline + DEADLINE_GRACE_S:
                waiter.reason = DeadlineError(TOO_LATE)
            elif waiter.is_old and _has_left(waiter.receive):
                waiter.reason = ClientGoneError()
            waiter.is_old = True
            if waiter.reason is not None:
                self._waiters.discard(waiter)
                if waiter.task is not None:
                    waiter.task.cancel()
        if self._waiters:
            took = time.monotonic() - begun
            loop.call_later(max(SWEEP_EVERY_S, took / _SWEEP_SHARE), self._sweep, loop)
        else:
            self._loop = None


def _has_left(receive: Receive) -> bool:
    """Whether `receive` has a disconnect to tell at once: it is asked, and left when it would wait."""
    asking = receive().__await__()
    try:
        next(asking)
    except StopIteration as told:
        return bool(told.value["type"] == "http.disconnect")
    except Exception:
        return True
    asking.close()
    return False
