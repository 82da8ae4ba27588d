"""The scheduler of packed batches, by table and by property: no clock, no thread."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.scheduler import BATCH_TURN, Queue, Scheduler, Waiting, make_scheduler
from ridgeline_server.engine.token_scheduler import TokenScheduler
from ridgeline_server.request import Priority
from ridgeline_server.runtimes.grid import Shape, ShapeGrid
from ridgeline_server.runtimes.token_grid import TokenGrid

GRID = TokenGrid((16, 32, 64, 128))


def costs(overhead: float = 8.0, grid: TokenGrid = GRID) -> BatchCosts:
    """A second a token, and an overhead a batch."""
    return BatchCosts(grid, {shape: shape[1] + overhead for shape in grid.shapes})


COSTS = costs()


def waiting(tokens: int, payload: str = "", priority: Priority = Priority.INTERACTIVE) -> Waiting[str]:
    return Waiting(tokens, arrived=0.0, payload=payload, priority=priority)


def filled(*tokens: int, priority: Priority = Priority.INTERACTIVE) -> TokenScheduler[str]:
    queue: TokenScheduler[str] = TokenScheduler(GRID)
    for number, count in enumerate(tokens):
        queue.add(waiting(count, str(number), priority))
    return queue


def lengths(queue: Queue[str], batch_costs: BatchCosts = COSTS) -> list[int]:
    return [entry.tokens for entry in queue.next_batch(0.0, batch_costs)]


def payloads(batch: list[Waiting[str]]) -> list[str]:
    return [entry.payload for entry in batch]


@pytest.mark.parametrize(
    ("tokens", "overhead", "first"),
    [
        ([5], 8, [5]),
        ([60, 3, 7, 50], 8, [60, 3, 7, 50]),  # any mix of lengths, 120 of 128 tokens
        ([100, 30], 8, [100]),  # the next does not fit the largest bucket, and nothing behind it overtakes it
        ([100, 30, 5], 8, [100]),
        ([32, 32, 2], 8, [32, 32]),  # two tokens more would pay for twice the bucket
        ([32, 32, 2], 10_000, [32, 32, 2]),  # unless a batch costs much whatever is in it
        ([32, 32, 20], 30, [32, 32]),  # 94 s and 62 s, against 158 s in one
        ([32, 32, 20], 33, [32, 32, 20]),  # 97 s and 65 s, against 161 s in one
        ([32, 32, 20, 60], 33, [32, 32]),  # more wait than fit: the rest goes with what comes after it
        ([10, 10, 10], 8, [10, 10, 10]),
        ([128], 8, [128]),
        ([1] * 200, 8, [1] * 128),
    ],
)
def test_the_oldest_go_as_far_as_their_tokens_are_worth_it(
    tokens: list[int], overhead: float, first: list[int]
) -> None:
    assert lengths(filled(*tokens), costs(overhead)) == first


def test_nothing_waits_nothing_goes() -> None:
    queue = filled(5)
    assert lengths(queue) == [5]
    assert lengths(queue) == []
    assert (queue.sequences, queue.tokens, queue.interactive_tokens) == (0, 0, 0)


def test_a_sequence_over_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="129 tokens do not fit"):
        filled(129)


def test_dropped_sequences_are_left_out() -> None:
    queue: TokenScheduler[str] = TokenScheduler(GRID)
    entries = [waiting(30, name) for name in "abcd"]
    for entry in entries:
        queue.add(entry)
    queue.drop(entries[0])
    queue.drop(entries[2])
    queue.drop(entries[2])
    assert (queue.sequences, queue.tokens) == (2, 60)
    assert payloads(queue.next_batch(0.0, COSTS)) == ["b", "d"]
    queue.drop(entries[1])
    assert (queue.sequences, queue.tokens) == (0, 0)


def test_batch_priority_fills_what_is_left_of_the_bucket_alone() -> None:
    queue = filled(20)
    for number in range(3):
        queue.add(waiting(6, f"batch {number}", Priority.BATCH))
    assert payloads(queue.next_batch(0.0, COSTS)) == ["0", "batch 0", "batch 1"]
    assert queue.interactive_tokens == 0 and queue.tokens == 6


def test_batch_priority_leads_in_its_turn() -> None:
    queue: TokenScheduler[str] = TokenScheduler(GRID)
    queue.add(waiting(128, "batch", Priority.BATCH))
    leaders = []
    for _ in range(BATCH_TURN):
        queue.add(waiting(128, "interactive"))
        leaders += payloads(queue.next_batch(0.0, COSTS))
    assert leaders == ["interactive"] * (BATCH_TURN - 1) + ["batch"]


def test_everything_can_be_taken() -> None:
    queue = filled(5, 60, 128)
    queue.add(waiting(7, "batch", Priority.BATCH))
    assert sorted(payloads(queue.take_all())) == ["0", "1", "2", "batch"]
    assert (queue.sequences, queue.tokens) == (0, 0)


@given(
    arrivals=st.lists(
        st.tuples(st.integers(1, 128), st.sampled_from(Priority), st.booleans(), st.integers(0, 3)), max_size=60
    ),
    overhead=st.floats(0, 1000),
)
def test_every_sequence_goes_once_in_order_and_within_the_grid(
    arrivals: list[tuple[int, Priority, bool, int]], overhead: float
) -> None:
    queue: TokenScheduler[str] = TokenScheduler(GRID)
    kept: dict[Priority, list[str]] = {priority: [] for priority in Priority}
    gone: dict[Priority, list[str]] = {priority: [] for priority in Priority}
    batch_costs = costs(overhead)

    def run_one() -> None:
        batch = queue.next_batch(0.0, batch_costs)
        assert 0 < sum(entry.tokens for entry in batch) <= GRID.most_tokens
        for entry in batch:
            gone[entry.priority].append(entry.payload)

    for number, (tokens, priority, is_dropped, batches) in enumerate(arrivals):
        entry = waiting(tokens, str(number), priority)
        queue.add(entry)
        if is_dropped:
            queue.drop(entry)
        else:
            kept[priority].append(entry.payload)
        for _ in range(min(batches, queue.sequences)):
            if queue.sequences:
                run_one()
    while queue.sequences:
        run_one()
    assert gone == kept and queue.tokens == queue.interactive_tokens == 0


@given(tokens=st.lists(st.integers(1, 128), min_size=1, max_size=40), seed=st.integers(1, 50))
def test_the_oldest_is_in_the_very_next_batch(tokens: list[int], seed: int) -> None:
    """Whatever batches cost: so nobody is overtaken, and the age bound holds by itself."""
    seconds: dict[Shape, float] = {shape: 1.0 + (seed * shape[1]) % 97 for shape in GRID.shapes}
    batch = filled(*tokens).next_batch(0.0, BatchCosts(GRID, seconds))
    assert payloads(batch) == [str(number) for number in range(len(batch))]


@given(tokens=st.lists(st.integers(1, 128), min_size=1, max_size=40), overhead=st.floats(0, 500))
def test_a_line_that_fits_a_bucket_never_costs_more_than_it(tokens: list[int], overhead: float) -> None:
    kept = [count for count, so_far in zip(tokens, accumulate(tokens), strict=True) if so_far <= GRID.most_tokens]
    queue, batch_costs = filled(*kept), costs(overhead)
    whole_s, spent_s = batch_costs[1, GRID.bucket(sum(kept))], 0.0
    while queue.sequences:
        spent_s += batch_costs[1, GRID.bucket(sum(lengths(queue, batch_costs)))]
    assert spent_s <= whole_s * (1 + 1e-9)


def test_a_grid_brings_its_scheduler() -> None:
    packed: Queue[str] = make_scheduler(GRID, 1.0)
    padded: Queue[str] = make_scheduler(ShapeGrid(((1, 16),)), 1.0)
    assert isinstance(packed, TokenScheduler) and isinstance(padded, Scheduler)
    with pytest.raises(TypeError, match="no scheduler fills batches of a str"):
        make_scheduler("x", 1.0)  # type: ignore[arg-type]
