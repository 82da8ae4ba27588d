"""The generator processes, seen from the command: start them together, follow them, gather what they saw."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess

from ridgeline_bench import generator
from ridgeline_bench.errors import RunError
from ridgeline_bench.plan import Outcome, Plan, Progress

_START_S = 60.0
_HEAD_START_S = 0.1
_TICK_S = 0.25
_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Tick:
    """Where the run is: seconds since its begin (warm-up included), and counts over all processes since then."""

    elapsed_s: float
    replies: int
    errors: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Run:
    """What the processes saw, and whether somebody cut them short."""

    outcomes: tuple[Outcome, ...]
    interrupted: bool


def split(plan: Plan, processes: int) -> list[Plan]:
    """Share one load among processes; together they offer what `plan` says.

    The sum of Poisson arrivals is Poisson again. Each process begins elsewhere among the requests.
    """
    size = len(plan.requests)
    plans = []
    for index in range(processes):
        start = index * size // processes
        share = None
        if plan.concurrency is not None:
            share = plan.concurrency // processes + (index < plan.concurrency % processes)
        plans.append(
            replace(
                plan,
                requests=plan.requests[start:] + plan.requests[:start],
                concurrency=share,
                rate=None if plan.rate is None else plan.rate / processes,
                max_connections=max(1, plan.max_connections // processes),
                seed=plan.seed + index,
            )
        )
    return plans


def run(plans: Sequence[Plan], on_tick: Callable[[Tick], None], on_measuring: Callable[[], None]) -> Run:
    """Make the load. `on_measuring` is called once, when the warm-up is over; Ctrl-C ends the run early.

    Raises RunError when a process dies.
    """
    context = multiprocessing.get_context("spawn")
    started: list[tuple[SpawnProcess, Pipe]] = []
    try:
        for plan in plans:
            ours, theirs = context.Pipe()
            process = context.Process(target=generator.main, args=(plan, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        pipes = [pipe for _, pipe in started]
        begin = _begin_together(pipes)
        return _Following(plans[0], pipes, begin, on_tick, on_measuring).follow()
    finally:
        for process, pipe in started:
            pipe.close()
            process.join(timeout=1.0)
            if process.is_alive():
                process.terminate()


def _begin_together(pipes: Sequence[Pipe]) -> float:
    for pipe in pipes:
        if not pipe.poll(_START_S) or _receive(pipe) != generator.READY:
            raise RunError("a load generator process did not start")
    begin = time.monotonic() + _HEAD_START_S
    for pipe in pipes:
        pipe.send(begin)
    return begin


def _receive(pipe: Pipe) -> object:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise RunError("a load generator process died; was it killed?") from None


class _Following:
    def __init__(
        self,
        plan: Plan,
        pipes: Sequence[Pipe],
        begin: float,
        on_tick: Callable[[Tick], None],
        on_measuring: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._pipes = pipes
        self._begin = begin
        self._on_tick = on_tick
        self._on_measuring = on_measuring
        self._progress = {pipe: Progress(0, 0, 0) for pipe in pipes}
        self._outcomes: dict[Pipe, Outcome] = {}
        self._is_measuring = False
        self._interrupted = False

    def follow(self) -> Run:
        plan = self._plan
        last = self._begin + plan.warmup_s + plan.duration_s + plan.timeout_s + _GRACE_S
        while len(self._outcomes) < len(self._pipes):
            try:
                self._step()
            except KeyboardInterrupt:
                self._interrupt()
            if time.monotonic() > last:
                raise RunError("the load generator did not end in time")
        ordered = tuple(self._outcomes[pipe] for pipe in self._pipes)
        return Run(ordered, self._interrupted)

    def _step(self) -> None:
        now = time.monotonic()
        if not self._is_measuring and now >= self._begin + self._plan.warmup_s:
            self._is_measuring = True
            self._on_measuring()
        waiting = [pipe for pipe in self._pipes if pipe not in self._outcomes]
        for pipe in wait(waiting, _TICK_S):
            assert isinstance(pipe, Pipe)
            message = _receive(pipe)
            if isinstance(message, Outcome):
                self._outcomes[pipe] = message
            elif isinstance(message, Progress):
                self._progress[pipe] = message
        self._on_tick(self._tick())

    def _tick(self) -> Tick:
        seen = self._progress.values()
        return Tick(
            max(0.0, time.monotonic() - self._begin),
            sum(each.replies for each in seen),
            sum(each.errors for each in seen),
            sum(each.in_flight for each in seen),
        )

    def _interrupt(self) -> None:
        if self._interrupted:
            raise RunError("stopped twice: the results are lost")
        self._interrupted = True
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.send("stop")
