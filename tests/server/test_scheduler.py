"""The scheduler by table and by property: no clock, no thread."""

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.scheduler import BATCH_TURN, Scheduler, Waiting
from ridgeline_server.request import Priority
from ridgeline_server.runtimes.grid import ShapeGrid, make_grid

T = TypeVar("T")

GRID = ShapeGrid(((1, 16), (4, 16), (1, 32), (2, 32), (1, 64)))
OVERHEAD_TOKENS = 16


def costs(grid: ShapeGrid) -> BatchCosts:
    """A second a token, and an overhead a batch."""
    return BatchCosts(grid, {(rows, length): rows * length + OVERHEAD_TOKENS for rows, length in grid.shapes})


class Queue(Scheduler[T]):
    """A scheduler with its costs."""

    def __init__(self, grid: ShapeGrid, max_age_s: float) -> None:
        super().__init__(grid, max_age_s)
        self.costs = costs(grid)

    def next(self, now: float) -> list[Waiting[T]]:
        return self.next_batch(now, self.costs)


def scheduler(max_age_s: float = 1.0, grid: ShapeGrid = GRID) -> Queue[str]:
    return Queue(grid, max_age_s)


def payloads(batch: list[Waiting[str]]) -> list[str]:
    return [entry.payload for entry in batch]


def test_a_lone_sequence_is_not_kept_waiting() -> None:
    queue = scheduler()
    queue.add(Waiting(5, arrived=0.0, payload="only"))
    assert payloads(queue.next(now=0.0)) == ["only"]
    assert queue.next(now=0.0) == []
    assert (queue.sequences, queue.tokens) == (0, 0)


def test_sequences_of_one_length_share_a_batch_in_order_of_arrival() -> None:
    queue = scheduler()
    for number in range(6):
        queue.add(Waiting(10, arrived=float(number), payload=str(number)))
    assert payloads(queue.next(now=0.0)) == ["0", "1", "2", "3"]


def test_the_better_filled_length_goes_first_while_nobody_is_overdue() -> None:
    queue = scheduler(max_age_s=1.0)
    queue.add(Waiting(20, arrived=0.0, payload="lone"))
    for number in range(4):
        queue.add(Waiting(10, arrived=0.1, payload=f"full {number}"))
    assert payloads(queue.next(now=0.5)) == [f"full {number}" for number in range(4)]
    assert payloads(queue.next(now=0.5)) == ["lone"]


def test_the_oldest_leads_once_it_is_overdue() -> None:
    queue = scheduler(max_age_s=1.0)
    queue.add(Waiting(20, arrived=0.0, payload="lone"))
    for number in range(4):
        queue.add(Waiting(10, arrived=0.1, payload=f"full {number}"))
    assert payloads(queue.next(now=1.0))[0] == "lone"


def test_spare_rows_carry_shorter_sequences() -> None:
    grid = ShapeGrid(((1, 16), (4, 16), (1, 32), (4, 32)))
    queue = scheduler(max_age_s=0.0, grid=grid)
    for number in range(3):
        queue.add(Waiting(30, arrived=0.0, payload=f"long {number}"))
    queue.add(Waiting(3, arrived=1.0, payload="short"))
    assert payloads(queue.next(now=1.0)) == ["long 0", "long 1", "long 2", "short"]


def test_dropped_sequences_never_come_out_and_do_not_count() -> None:
    queue = scheduler()
    entries = [Waiting(10, arrived=0.0, payload=str(number)) for number in range(4)]
    for entry in entries:
        queue.add(entry)
    for entry in (entries[0], entries[2], entries[2]):
        queue.drop(entry)
    assert (queue.sequences, queue.tokens) == (2, 20)
    assert payloads(queue.next(now=0.0)) + payloads(queue.next(now=0.0)) == ["1", "3"]
    queue.drop(entries[1])
    assert (queue.sequences, queue.tokens) == (0, 0)


def test_a_sequence_over_the_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match="65 tokens"):
        scheduler().add(Waiting(65, arrived=0.0, payload="long"))


@given(
    lengths=st.lists(st.integers(1, 256), min_size=1, max_size=80),
    budget=st.integers(16, 2048),
    max_age_s=st.sampled_from([0.0, 0.5, 100.0]),
)
def test_every_sequence_comes_out_once_in_a_batch_that_fits(lengths: list[int], budget: int, max_age_s: float) -> None:
    grid = make_grid(256, budget)
    queue: Queue[int] = Queue(grid, max_age_s)
    for number, length in enumerate(lengths):
        queue.add(Waiting(length, arrived=float(number), payload=number))
    seen = []
    while batch := queue.next(now=1e3):
        rows, length = grid.fit(len(batch), max(entry.tokens for entry in batch))
        assert rows == 1 or rows * length <= budget
        seen += [entry.payload for entry in batch]
    assert sorted(seen) == list(range(len(lengths)))


@given(lengths=st.lists(st.sampled_from([10, 20, 60]), min_size=1, max_size=60))
def test_nobody_past_the_age_bound_is_overtaken_by_a_leader(lengths: list[int]) -> None:
    queue: Queue[int] = Queue(GRID, max_age_s=0.0)
    for number, length in enumerate(lengths):
        queue.add(Waiting(length, arrived=float(number), payload=number))
    waiting = set(range(len(lengths)))
    while batch := queue.next(now=1e3):
        assert min(waiting) in {entry.payload for entry in batch}
        waiting -= {entry.payload for entry in batch}


def test_interactive_goes_before_batch_which_fills_the_rows_that_are_left() -> None:
    queue = scheduler()
    for number in range(4):
        queue.add(Waiting(10, arrived=0.0, payload=f"batch {number}", priority=Priority.BATCH))
    for number in range(3):
        queue.add(Waiting(10, arrived=0.1, payload=f"interactive {number}"))
    first = payloads(queue.next(now=0.2))
    assert first == ["interactive 0", "interactive 1", "interactive 2", "batch 0"]
    assert payloads(queue.next(now=0.2)) == ["batch 1", "batch 2", "batch 3"]


def test_batch_priority_is_never_starved() -> None:
    queue = scheduler(max_age_s=0.05)
    for number in range(3):
        queue.add(Waiting(60, arrived=0.0, payload=f"batch {number}", priority=Priority.BATCH))
    leaders = []
    for turn in range(3 * BATCH_TURN):
        for number in range(8):
            queue.add(Waiting(10, arrived=0.1 * turn, payload=f"interactive {number}"))
        leaders.append(payloads(queue.next(now=0.1 * turn))[0])
    turns = [turn for turn, leader in enumerate(leaders) if leader.startswith("batch")]
    assert turns == [BATCH_TURN - 1, 2 * BATCH_TURN - 1, 3 * BATCH_TURN - 1]


def test_batch_priority_alone_is_served_at_once() -> None:
    queue = scheduler()
    queue.add(Waiting(10, arrived=0.0, payload="batch", priority=Priority.BATCH))
    assert (queue.tokens, queue.interactive_tokens) == (10, 0)
    assert payloads(queue.next(now=0.0)) == ["batch"]


def test_among_lengths_the_one_that_wastes_least_leads() -> None:
    queue = scheduler(max_age_s=10.0, grid=ShapeGrid(((4, 16), (1, 64), (2, 64))))
    queue.add(Waiting(10, arrived=0.0, payload="a row of four"))
    queue.add(Waiting(60, arrived=1.0, payload="a whole batch"))
    assert payloads(queue.next(now=2.0)) == ["a whole batch"]


def test_what_is_dropped_is_not_kept() -> None:
    queue = scheduler()
    entries = [Waiting(10, arrived=0.0, payload=str(number)) for number in range(100)]
    for entry in entries:
        queue.add(entry)
    for entry in entries[:90]:
        queue.drop(entry)
    assert sum(len(line._waiting) for line in queue._interactive) <= 20
    served = []
    while batch := queue.next(now=0.0):
        served += payloads(batch)
    assert served == [str(number) for number in range(90, 100)]
    assert (queue.sequences, queue.tokens, queue.interactive_tokens) == (0, 0, 0)
