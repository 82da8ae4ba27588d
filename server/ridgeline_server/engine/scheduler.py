"""Which waiting sequences make the next batch: plain synchronous code, with no clock, no thread and no tensor.

Waiting sequences are kept by grid length. The next batch is led by the bucket that serves most sequences per executed
token, unless the oldest sequence has waited past the age bound: then it leads, whatever it costs. Rows that the chosen
shape has left are filled with shorter sequences, which ride along for nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ridgeline_server.runtimes.grid import CALL_OVERHEAD_TOKENS, ShapeGrid

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
    is_taken: bool = False
    is_dropped: bool = False


@dataclass(slots=True)
class Scheduler(Generic[T]):
    """Sequences in, batches out."""

    grid: ShapeGrid
    max_age_s: float
    sequences: int = 0
    tokens: int = 0
    _buckets: list[deque[Waiting[T]]] = field(init=False)

    def __post_init__(self) -> None:
        self._buckets = [deque() for _ in self.grid.lengths]

    def add(self, waiting: Waiting[T]) -> None:
        """Let a sequence wait. Raises ValueError when it is longer than the grid's longest."""
        self._buckets[self.grid.bucket(waiting.tokens)].append(waiting)
        self.sequences += 1
        self.tokens += waiting.tokens

    def drop(self, waiting: Waiting[T]) -> None:
        """Forget a sequence that nobody waits for any more; nothing happens when it is in a batch already."""
        if not waiting.is_dropped and not waiting.is_taken:
            waiting.is_dropped = True
            self.sequences -= 1
            self.tokens -= waiting.tokens

    def next_batch(self, now: float) -> list[Waiting[T]]:
        """Take the sequences of the next batch out of the queue; an empty list when none waits."""
        self._discard_dropped()
        occupied = [index for index, bucket in enumerate(self._buckets) if bucket]
        if not occupied:
            return []
        oldest = min(occupied, key=lambda index: self._buckets[index][0].arrived)
        is_overdue = now - self._buckets[oldest][0].arrived >= self.max_age_s
        leader = oldest if is_overdue else max(occupied, key=self._rank)
        rows = self.grid.best_rows(leader, len(self._buckets[leader]))
        return self._take(leader, rows)

    def _rank(self, index: int) -> tuple[float, float]:
        bucket = self._buckets[index]
        length = self.grid.lengths[index]
        rows = self.grid.best_rows(index, len(bucket))
        # token efficiency, so that a full batch of long texts is worth as much as one of short texts
        filled = min(rows, len(bucket)) * length / (rows * length + CALL_OVERHEAD_TOKENS)
        return filled, -bucket[0].arrived

    def _take(self, leader: int, rows: int) -> list[Waiting[T]]:
        batch: list[Waiting[T]] = []
        for index in range(leader, -1, -1):
            bucket = self._buckets[index]
            while bucket and len(batch) < rows:
                waiting = bucket.popleft()
                if not waiting.is_dropped:
                    batch.append(waiting)
        for waiting in batch:
            waiting.is_taken = True
            self.sequences -= 1
            self.tokens -= waiting.tokens
        return batch

    def _discard_dropped(self) -> None:
        for bucket in self._buckets:
            while bucket and bucket[0].is_dropped:
                bucket.popleft()
