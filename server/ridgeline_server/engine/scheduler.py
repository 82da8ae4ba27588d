"""Which waiting sequences make the next batch: plain synchronous code, with no clock, no thread and no tensor.

Waiting sequences are kept by grid length. A batch is led by one length and filled up with shorter sequences. Among the
lengths that could lead, and the shapes that hold them, the one goes first whose sequences are worth most per second of
the replica's time, a sequence being worth what it costs in the best full batch. But the oldest sequence leads once it
has waited past the age bound, whatever it costs: from then on nobody overtakes it.

Interactive sequences go before those of batch priority, which fill rows that are left. So that these are never
starved, they lead one of BATCH_TURN batches while both wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.request import Priority
from ridgeline_server.runtimes.grid import Shape, ShapeGrid

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


class Scheduler(Generic[T]):
    """Sequences in, batches out.

    sequences, tokens:  how many wait
    interactive_tokens: how many of them are not of batch priority
    """

    def __init__(self, grid: ShapeGrid, max_age_s: float) -> None:
        self.sequences = 0
        self.tokens = 0
        self.interactive_tokens = 0
        self._since_batch_led = 0
        self._grid = grid
        self._max_age_s = max_age_s
        self._interactive: list[_Line[T]] = [_Line() for _ in grid.lengths]
        self._batch: list[_Line[T]] = [_Line() for _ in grid.lengths]
        self._shapes = [_useful_shapes(grid, length) for length in grid.lengths]

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

    def next_batch(self, now: float, costs: BatchCosts) -> list[Waiting[T]]:
        """Take the sequences of the next batch for a replica with these costs; an empty list when none waits."""
        if not self.sequences:
            return []
        lines, others = self._leading()
        waiting = [index for index, line in enumerate(lines) if line.count]
        oldest = min(waiting, key=lambda index: lines[index].front())
        is_overdue = now - lines[oldest].front() >= self._max_age_s
        leader, rows = self._best(lines, [oldest] if is_overdue else waiting, costs)
        return self._take(leader, rows, lines, others)

    def take_all(self) -> list[Waiting[T]]:
        """Take everything that waits, in no order."""
        everything = [waiting for line in (*self._interactive, *self._batch) for waiting in line.take(line.count)]
        self._mark_taken(everything)
        return everything

    def _line(self, waiting: Waiting[T]) -> _Line[T]:
        lines = self._interactive if waiting.priority is Priority.INTERACTIVE else self._batch
        return lines[self._grid.bucket(waiting.tokens)]

    def _leading(self) -> tuple[list[_Line[T]], list[_Line[T]]]:
        """The priority whose turn it is, and the other one. Something waits."""
        is_batch_turn = self._since_batch_led >= BATCH_TURN - 1
        has_interactive = self.interactive_tokens > 0
        has_batch = self.tokens > self.interactive_tokens
        if has_interactive and not (has_batch and is_batch_turn):
            self._since_batch_led = self._since_batch_led + 1 if has_batch else 0
            return self._interactive, self._batch
        self._since_batch_led = 0
        return self._batch, self._interactive

    def _best(self, lines: list[_Line[T]], leaders: Iterable[int], costs: BatchCosts) -> tuple[int, int]:
        """The leading length and the row count of most worth per second; between equals, that of the older front."""
        best = (-1.0, 0.0, 0, 0)
        for leader in leaders:
            front = -lines[leader].front()
            for shape in self._shapes[leader]:
                worth = _worth(lines, leader, shape[0], costs.values) / costs[shape]
                best = max(best, (worth, front, leader, shape[0]))
        return best[2:]

    def _take(self, leader: int, rows: int, lines: list[_Line[T]], others: list[_Line[T]]) -> list[Waiting[T]]:
        batch: list[Waiting[T]] = []
        for index in range(leader, -1, -1):
            for line in (lines[index], others[index]):
                batch += line.take(rows - len(batch))
            if len(batch) == rows:
                break
        self._mark_taken(batch)
        return batch

    def _mark_taken(self, taken: list[Waiting[T]]) -> None:
        for waiting in taken:
            waiting.is_taken = True
            self._count(waiting, -1)

    def _count(self, waiting: Waiting[T], change: int) -> None:
        self.sequences += change
        self.tokens += change * waiting.tokens
        if waiting.priority is Priority.INTERACTIVE:
            self.interactive_tokens += change * waiting.tokens


class _Line(Generic[T]):
    """Sequences of one grid length and one priority, in order of arrival. `count`: without the dropped ones."""

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

    def take(self, most: int) -> list[Waiting[T]]:
        """The oldest sequences, `most` at most."""
        taken: list[Waiting[T]] = []
        while self.count and len(taken) < most:
            waiting = self._waiting.popleft()
            if not waiting.is_dropped:
                taken.append(waiting)
                self.count -= 1
        return taken


def _worth(lines: list[_Line[T]], leader: int, rows: int, values: list[float]) -> float:
    """Worth of the batch that `leader` leads, its spare rows filled with the next shorter sequences."""
    worth = 0.0
    for index in range(leader, -1, -1):
        count = lines[index].count
        if count >= rows:
            return worth + rows * values[index]
        worth += count * values[index]
        rows -= count
    return worth


def _useful_shapes(grid: ShapeGrid, length: int) -> list[Shape]:
    """Shapes that hold sequences of `length`, without those that another one beats in rows and tokens."""
    holding = [shape for shape in grid.shapes if shape[1] >= length]
    return [
        (rows, long)
        for rows, long in holding
        if not any(r >= rows and r * n <= rows * long and (r, n) != (rows, long) for r, n in holding)
    ]
