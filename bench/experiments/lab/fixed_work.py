"""A fixed number of requests over a fixed number of connections, in a process of its own: how long it takes.

Each connection sends the next request that nobody has sent when the reply to its last one came. All connections are
open before the first request, and the time ends with the last reply.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

import numpy as np
import numpy.typing as npt
import uvloop

from ridgeline_bench.connection import Connection
from ridgeline_bench.plan import TIMEOUT, UNREACHABLE

_SWEEP_S = 0.1
_OK = 200


class WorkError(Exception):
    """The process that makes the requests ended without a result."""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of the requests, in their order.

    seconds:   from the first request until the last reply
    latency_s: [requests] float64
    codes:     [requests] HTTP status, or a negative key of ridgeline_bench.plan.ERROR_KINDS
    tokens:    [requests] that the server said it worked on, 0 = not said
    cpu_s:     of this process meanwhile
    """

    seconds: float
    latency_s: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    cpu_s: float

    @property
    def errors(self) -> int:
        """Requests that got another status than 200, refusals included, or no answer."""
        return int((self.codes != _OK).sum())


def run(port: int, requests: Sequence[bytes], connections: int, timeout_s: float = 60.0) -> Done:
    """Make the requests, each once.

    requests: whole HTTP requests
    Raises WorkError.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, port, tuple(requests), connections, timeout_s), daemon=True)
    process.start()
    theirs.close()
    try:
        done = ours.recv()
    except EOFError:
        raise WorkError("the process that makes the requests died; was it killed?") from None
    finally:
        process.join()
    assert isinstance(done, Done)
    return done


def _main(pipe: Pipe, port: int, requests: tuple[bytes, ...], connections: int, timeout_s: float) -> None:
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send(runner.run(make(port, requests, connections, timeout_s)))


async def make(port: int, requests: Sequence[bytes], connections: int, timeout_s: float) -> Done:
    """As `run`, in this process."""
    return await _Work(port, requests, timeout_s).run(connections)


class _Work:
    """The owner of the connections: deals out requests, notes replies."""

    def __init__(self, port: int, requests: Sequence[bytes], timeout_s: float) -> None:
        self._port = port
        self._requests = requests
        self._timeout_s = timeout_s
        self._next = self._answered = 0
        self._running: dict[Connection, int] = {}
        self._latency_s = np.zeros(len(requests))
        self._codes = np.zeros(len(requests), np.int64)
        self._tokens = np.zeros(len(requests), np.int64)
        self._is_open = False
        self._opening: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    async def run(self, connections: int) -> Done:
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        opened = [await self._connect() for _ in range(connections)]
        self._is_open = True
        began, cpu = time.monotonic(), time.process_time()
        for connection in opened:
            self._deal(connection)
        sweeping = self._loop.create_task(self._sweep())
        await self._finished
        seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu
        sweeping.cancel()
        for connection in list(self._connections):
            connection.close()
        return Done(seconds, self._latency_s, self._codes, self._tokens, cpu_s)

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)

    def replied(self, connection: Connection, code: int, tokens: int, timing: bytes | None) -> None:
        index = self._running.pop(connection)
        self._note(index, code, tokens, time.monotonic() - connection.sent)
        if connection.reusable:
            self._deal(connection)
        else:
            connection.close()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._is_open and not self._finished.done() and self._next < len(self._requests):
            task = self._loop.create_task(self._replace())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _deal(self, connection: Connection) -> None:
        if self._next < len(self._requests):
            now = time.monotonic()
            self._running[connection] = self._next
            self._next += 1
            connection.send(self._requests[self._running[connection]], now, now, now + self._timeout_s)

    def _note(self, index: int, code: int, tokens: int, seconds: float) -> None:
        self._latency_s[index], self._codes[index], self._tokens[index] = seconds, code, tokens
        self._answered += 1
        if self._answered == len(self._requests) and not self._finished.done():
            self._finished.set_result(None)

    async def _connect(self) -> Connection:
        _, connection = await self._loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)
        return connection

    async def _replace(self) -> None:
        """A connection for one that ended; where there is none to be had, a request has failed."""
        try:
            self._deal(await self._connect())
        except OSError:
            if self._next < len(self._requests):
                self._next += 1
                self._note(self._next - 1, UNREACHABLE, 0, 0.0)
                await asyncio.sleep(_SWEEP_S)
                await self._replace()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = time.monotonic()
            for connection in [each for each in self._running if each.deadline < now]:
                connection.fail(TIMEOUT)
