import random

import pytest

from ridgeline_server.report.history import MOST_BATCHES, SLOT_S, SLOTS, History
from ridgeline_server.report.percentiles import PERCENTILE_ERROR, Percentiles, together
from tests.server.http_fakes import batch_record


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(0, -(-len(values) * share // 1).__int__() - 1)]


@pytest.mark.parametrize("seed", [1, 2])
def test_percentiles_are_within_their_error(seed: int) -> None:
    draw = random.Random(seed)
    values = [draw.lognormvariate(-4, 1.5) for _ in range(3001)]
    percentiles = Percentiles()
    for value in values:
        percentiles.add(value)
    for share, found in zip((0.5, 0.9, 0.99), percentiles.at(0.5, 0.9, 0.99), strict=True):
        assert found == pytest.approx(exact(values, share), rel=PERCENTILE_ERROR + 1e-9)


def test_percentiles_of_parts_are_those_of_the_whole() -> None:
    whole, parts = Percentiles(), [Percentiles(), Percentiles(), Percentiles()]
    for index in range(300):
        whole.add(0.001 * (index + 1))
        parts[index % 2].add(0.001 * (index + 1))
    assert together(parts).at(0.5, 0.99) == whole.at(0.5, 0.99)
    assert together([]).at(0.5, 0.9) == [None, None]


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e12, float("nan")])
def test_a_strange_duration_is_taken_as_the_nearest_possible(seconds: float) -> None:
    percentiles = Percentiles()
    percentiles.add(seconds)
    (found,) = percentiles.at(0.5)
    assert found is not None and 0 < found < 2e5 and len(percentiles.counts) == 1


def test_a_slot_sums_what_happened_in_its_seconds() -> None:
    clock = Clock()
    history = History(clock)
    history.record_request(1000.5, 200, 0.1, (0.01, 0.02, 0.03, 0.03, 0.01))
    history.record_request(1001.5, 200, 0.3, (0.01, 0.02, 0.03, 0.23, 0.01))
    for status in (429, 429, 503, 400):
        history.record_request(1001.6, status, 0.001)
    history.record_batch(batch_record())
    assert history.slots(0) == {} and history.batches(0) == []  # it is not over
    clock.now = 1002.0
    running = history.now()
    ((index, slot),) = history.slots(0).items()
    assert (index, running) == (500, 501)
    assert (slot.answered, slot.refused, slot.failed, slot.rejected) == (2, 2, 1, 1)
    assert slot.steps_s == pytest.approx([0.02, 0.04, 0.06, 0.26, 0.02])
    assert slot.batches.mfu == pytest.approx(0.24)
    assert history.batches(500) == [batch_record()] and history.batches(501) == []


def test_memory_is_bounded_in_time_and_in_batches() -> None:
    clock = Clock()
    history = History(clock)
    for _ in range(3 * SLOTS):
        clock.now += SLOT_S
        for _ in range(10):
            history.record_request(clock.now, 200, 0.1)
            history.record_batch(batch_record())
    clock.now += SLOT_S
    history.now()
    assert len(history.slots(0)) == SLOTS
    assert len(history.batches(0)) <= MOST_BATCHES


def test_the_queue_is_sampled_ten_times_a_second_at_most() -> None:
    clock = Clock()
    history = History(clock)
    depths = iter(range(100))
    asked = []
    history.watch_queue(lambda: asked.append(next(depths)) or asked[-1])
    for _ in range(100):
        clock.now += 0.0199
        history.record_batch(batch_record())
    clock.now = 1002.0
    history.now()
    slot = history.slots(0)[500]
    assert 15 <= slot.samples <= 20
    assert (slot.most_queued, slot.queued) == (slot.samples - 1, sum(range(slot.samples)))
