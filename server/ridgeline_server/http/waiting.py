"""Requests that are not answered yet, and those whose answer nobody awaits any more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ridgeline_server.errors import TOO_LATE, DeadlineError, UnavailableError
from ridgeline_server.http.errors import ClientGoneError, RefusedError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

STOPPING = "the server is stopping; send the request again, to another server if there is one"
STOPPING_RETRY_AFTER_S = 1.0
SWEEP_EVERY_S = 0.2
# Sweeps may take this share of the time.
_SWEEP_SHARE = 0.01
# The engine answers deadlines itself; past this it is presumed unable to.
DEADLINE_GRACE_S = 1.0


class Waiter:
    """A client's request while its task works on it.

    deadline:   instant after which the answer is of no use
    read_by:    instant at which the body must be there, however far the deadline is
    is_reading: whether the body is still on its way
    reason:     why the task was cancelled, if the room did that
    """

    __slots__ = ("deadline", "is_old", "is_reading", "read_by", "reason", "receive", "task")

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.deadline = self.read_by = math.inf
        self.task: asyncio.Task[Any] | None = None
        self.is_reading = True
        self.is_old = False
        self.reason: Exception | None = None

    def cancel(self, reason: Exception) -> None:
        """End the task, which answers with the reason."""
        self.reason = reason
        if self.task is not None:
            self.task.cancel()

    def why_cancelled(self) -> Exception:
        """What to answer after the task was cancelled.

        Raises: CancelledError when the task shall end without an answer
        """
        task = self.task
        if task is None or not task.cancelling():
            return RuntimeError("the engine dropped a request that nobody cancelled. This is a bug.")
        if self.reason is None:
            raise asyncio.CancelledError
        task.uncancel()
        return self.reason


class WaitingRoom:
    """Cancels tasks whose client left, whose body is late, or whose deadline is well past.

    One timer sweeps them all: a task for each, suspended in `receive`, costs more than all else that HTTP does. What
    is answered between two sweeps is never looked at.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._waiters: set[Waiter] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, waiter: Waiter) -> None:
        """Watch over the current task until it leaves. Raises: UnavailableError when the room is closed."""
        if self.is_closed:
            raise UnavailableError(STOPPING, STOPPING_RETRY_AFTER_S)
        waiter.task = asyncio.current_task()
        self._waiters.add(waiter)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(SWEEP_EVERY_S, self._sweep, loop)

    def leave(self, waiter: Waiter) -> None:
        """The request has its answer."""
        self._waiters.discard(waiter)

    def close(self) -> None:
        """Let nobody in any more; those inside stay until they have their answers."""
        self.is_closed = True

    def dismiss(self) -> int:
        """Answer all who are still inside with 503, and tell how many they are."""
        waiters = list(self._waiters)
        for waiter in waiters:
            self._cancel(waiter, UnavailableError(STOPPING, STOPPING_RETRY_AFTER_S))
        return len(waiters)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = time.monotonic()
        for waiter in list(self._waiters):
            if waiter.is_reading:
                if begun > waiter.read_by:
                    self._cancel(waiter, RefusedError(408, "the body was not there in time; send it faster"))
            elif begun > waiter.deadline + DEADLINE_GRACE_S:
                self._cancel(waiter, DeadlineError(TOO_LATE))
            elif waiter.is_old and _has_left(waiter.receive):
                self._cancel(waiter, ClientGoneError())
            waiter.is_old = True
        if self._waiters:
            took = time.monotonic() - begun
            loop.call_later(max(SWEEP_EVERY_S, took / _SWEEP_SHARE), self._sweep, loop)
        else:
            self._loop = None

    def _cancel(self, waiter: Waiter, reason: Exception) -> None:
        self._waiters.discard(waiter)
        waiter.cancel(reason)


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
