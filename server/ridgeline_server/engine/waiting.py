"""What waits for a batch, in order of arrival, and whose turn it is: what all schedulers share.

Interactive sequences go before those of batch priority, which fill what is left of a batch. So that these are never
starved, they lead one of BATCH_TURN batches while both wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.request import Priority

BATCH_TURN = 8

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """One sequence that waits.

    tokens:   its length
    arrived:  instant of its arrival
    payload:  the caller's own; the scheduler never looks at it
    is_taken: it went into a batch
    """

    tokens: int
    arrived: float
    payload: T
    priority: Priority = Priority.INTERACTIVE
    is_taken: bool = False
    is_dropped: bool = False


class Line(Generic[T]):
    """Sequences of one priority that stand in one line, in order of arrival. `count`: without the dropped ones."""

    __slots__ = ("_waiting", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiting: deque[Waiting[T]] = deque()

    def add(self, waiting: Waiting[T]) -> None:
        self._waiting.append(waiting)
        self.count += 1

    def drop(self) -> None:
        """One that waits was marked as dropped. What is dropped is not kept beyond what is not."""
        self.count -= 1
        if len(self._waiting) > 2 * self.count:
            self._waiting = deque(waiting for waiting in self._waiting if not waiting.is_dropped)

    def front(self) -> float:
        """When the oldest sequence arrived. There must be one."""
        while self._waiting[0].is_dropped:
            self._waiting.popleft()
        return self._waiting[0].arrived

    def within(self, tokens: int) -> list[int]:
        """Lengths of the oldest sequences that together have at most so many tokens; the line stays as it is."""
        lengths: list[int] = []
        for waiting in self._waiting:
            if not waiting.is_dropped:
                tokens -= waiting.tokens
                if tokens < 0:
                    break
                lengths.append(waiting.tokens)
        return lengths

    def take(self, most: int) -> list[Waiting[T]]:
        """The oldest sequences, `most` at most."""
        taken: list[Waiting[T]] = []
        while self.count and len(taken) < most:
            waiting = self._waiting.popleft()
            if not waiting.is_dropped:
                taken.append(waiting)
                self.count -= 1
        return taken


class Queue(ABC, Generic[T]):
    """Sequences in, batches out.

    sequences, tokens:  how many wait
    interactive_tokens: how many of them are not of batch priority
    """

    def __init__(self, lines: int) -> None:
        """lines: how many of each priority"""
        self.sequences = 0
        self.tokens = 0
        self.interactive_tokens = 0
        self._since_batch_led = 0
        self._interactive: list[Line[T]] = [Line() for _ in range(lines)]
        self._batch: list[Line[T]] = [Line() for _ in range(lines)]

    def add(self, waiting: Waiting[T]) -> None:
        """Let a sequence wait. Raises ValueError when it is longer than the grid's longest."""
        self._line(waiting).add(waiting)
        self._count(waiting, 1)

    def drop(self, waiting: Waiting[T]) -> None:
        """Forget a sequence that nobody waits for any more; nothing happens when it is in a batch already."""
        if not waiting.is_dropped and not waiting.is_taken:
            waiting.is_dropped = True
            self._line(waiting).drop()
            self._count(waiting, -1)

    @abstractmethod
    def next_batch(self, now: float, costs: BatchCosts) -> list[Waiting[T]]:
        """Take the sequences of the next batch for a replica with these costs; an empty list when none waits."""

    def take_all(self) -> list[Waiting[T]]:
        """Take everything that waits, in no order."""
        everything = [waiting for line in (*self._interactive, *self._batch) for waiting in line.take(line.count)]
        self._mark_taken(everything)
        return everything

    @abstractmethod
    def _index(self, tokens: int) -> int:
        """Number of the line that sequences of this length stand in; raises ValueError when there is none."""

    def _line(self, waiting: Waiting[T]) -> Line[T]:
        lines = self._interactive if waiting.priority is Priority.INTERACTIVE else self._batch
        return lines[self._index(waiting.tokens)]

    def _leading(self) -> tuple[list[Line[T]], list[Line[T]]]:
        """The lines of the priority whose turn it is, and those of the other one. Something waits."""
        is_batch_turn = self._since_batch_led >= BATCH_TURN - 1
        has_interactive = self.interactive_tokens > 0
        has_batch = self.tokens > self.interactive_tokens
        if has_interactive and not (has_batch and is_batch_turn):
            self._since_batch_led = self._since_batch_led + 1 if has_batch else 0
            return self._interactive, self._batch
        self._since_batch_led = 0
        return self._batch, self._interactive

    def _mark_taken(self, taken: list[Waiting[T]]) -> None:
        for waiting in taken:
            waiting.is_taken = True
            self._count(waiting, -1)

    def _count(self, waiting: Waiting[T], change: int) -> None:
        self.sequences += change
        self.tokens += change * waiting.tokens
        if waiting.priority is Priority.INTERACTIVE:
            self.interactive_tokens += change * waiting.tokens
