"""Which waiting sequences make the next batch: plain synchronous code, with no clock, no thread and no tensor.

Here for padded batches; packed ones are in token_scheduler.py, and what both share in waiting.py.

Waiting sequences are kept by grid length. A batch is led by one length and filled up with shorter sequences. Among the
lengths that could lead, and the shapes that hold them, the one goes first whose sequences are worth most per second of
the replica's time, a sequence being worth what it costs in the best full batch. But the oldest sequence leads once it
has waited past the age bound, whatever it costs: from then on nobody overtakes it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.token_scheduler import TokenScheduler
from ridgeline_server.engine.waiting import BATCH_TURN, Line, Queue, T, Waiting
from ridgeline_server.runtimes.grid import Grid, Shape, ShapeGrid
from ridgeline_server.runtimes.token_grid import TokenGrid

__all__ = ["BATCH_TURN", "Queue", "Scheduler", "Waiting", "make_scheduler"]


def make_scheduler(grid: Grid, max_age_s: float) -> Queue[T]:
    """The scheduler for batches that are executed on this grid. Raises TypeError for a grid that none is for."""
    match grid:
        case TokenGrid():
            return TokenScheduler(grid)
        case ShapeGrid():
            return Scheduler(grid, max_age_s)
        case _:
            raise TypeError(f"no scheduler fills batches of a {type(grid).__name__}")


class Scheduler(Queue[T]):
    """Fills padded batches."""

    def __init__(self, grid: ShapeGrid, max_age_s: float) -> None:
        super().__init__(lines=len(grid.lengths))
        self._grid = grid
        self._max_age_s = max_age_s
        self._shapes = [_useful_shapes(grid, length) for length in grid.lengths]

    def next_batch(self, now: float, costs: BatchCosts) -> list[Waiting[T]]:
        if not self.sequences:
            return []
        lines, others = self._leading()
        waiting = [index for index, line in enumerate(lines) if line.count]
        oldest = min(waiting, key=lambda index: lines[index].front())
        is_overdue = now - lines[oldest].front() >= self._max_age_s
        leader, rows = self._best(lines, [oldest] if is_overdue else waiting, costs)
        return self._take(leader, rows, lines, others)

    def _index(self, tokens: int) -> int:
        return self._grid.bucket(tokens)

    def _best(self, lines: list[Line[T]], leaders: Iterable[int], costs: BatchCosts) -> tuple[int, int]:
        """The leading length and the row count of most worth per second; between equals, that of the older front."""
        best = (-1.0, 0.0, 0, 0)
        for leader in leaders:
            front = -lines[leader].front()
            for shape in self._shapes[leader]:
                worth = _worth(lines, leader, shape[0], costs.values) / costs[shape]
                best = max(best, (worth, front, leader, shape[0]))
        return best[2:]

    def _take(self, leader: int, rows: int, lines: list[Line[T]], others: list[Line[T]]) -> list[Waiting[T]]:
        batch: list[Waiting[T]] = []
        for index in range(leader, -1, -1):
            for line in (lines[index], others[index]):
                batch += line.take(rows - len(batch))
            if len(batch) == rows:
                break
        self._mark_taken(batch)
        return batch


def _worth(lines: list[Line[T]], leader: int, rows: int, values: list[float]) -> float:
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
