from __future__ import annotations

import itertools

import numpy as np
import pytest

from ridgeline_export.compress.prune.search import Slot, make_slot, search


def slots_of(seed: int, units: int = 4, unit_costs: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[Slot]:
    random = np.random.default_rng(seed)
    counts = tuple(range(1, units + 1))
    return [make_slot(random.random(units) ** 3, counts, [count * cost for count in counts]) for cost in unit_costs]


def cost_of(slots: list[Slot], counts: tuple[int, ...]) -> float:
    return float(sum(slot.costs[slot.counts.index(count)] for slot, count in zip(slots, counts, strict=True)))


def worth_of(slots: list[Slot], counts: tuple[int, ...]) -> float:
    return float(sum(slot.worth[slot.counts.index(count)] for slot, count in zip(slots, counts, strict=True)))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("limit", [3.0, 5.5, 8.0, 12.0])
def test_of_units_of_the_same_cost_the_best_are_kept(seed: int, limit: float) -> None:
    slots = slots_of(seed)
    found = search(slots, lambda counts: cost_of(slots, counts), limit)
    assert found is not None and cost_of(slots, found) <= limit
    fitting = [each for each in itertools.product(range(1, 5), repeat=3) if cost_of(slots, each) <= limit]
    assert worth_of(slots, found) == pytest.approx(max(worth_of(slots, each) for each in fitting))


@pytest.mark.parametrize("seed", range(10))
def test_nothing_more_fits_and_little_is_lost_to_units_of_several_costs(seed: int) -> None:
    slots = slots_of(seed, unit_costs=(0.7, 1.3, 2.1))
    found = search(slots, lambda counts: cost_of(slots, counts), 9.0)
    assert found is not None and cost_of(slots, found) <= 9.0
    for place, count in enumerate(found):
        more = (*found[:place], count + 1, *found[place + 1 :])
        assert count == 4 or cost_of(slots, more) > 9.0
    fitting = [each for each in itertools.product(range(1, 5), repeat=3) if cost_of(slots, each) <= 9.0]
    assert worth_of(slots, found) > 0.75 * max(worth_of(slots, each) for each in fitting)


def test_the_true_cost_decides_not_the_slots_own() -> None:
    slots = slots_of(0)
    found = search(slots, lambda counts: 2 * cost_of(slots, counts), 12.0)
    assert found is not None and sum(found) == 6


def test_fewer_than_the_fewest_is_no_answer() -> None:
    slots = slots_of(0)
    assert search(slots, lambda counts: cost_of(slots, counts), 2.9) is None


def test_units_that_are_worth_the_same_go_evenly() -> None:
    slots = [make_slot(np.ones(8), tuple(range(1, 9)), [float(count) for count in range(1, 9)]) for _ in range(3)]
    found = search(slots, lambda counts: cost_of(slots, counts), 15.0)
    assert found == (5, 5, 5)


def test_worth_below_zero_is_kept_where_it_fits() -> None:
    slots = [make_slot(np.array([-3.0, -1.0, -2.0]), (1, 2, 3), [1.0, 2.0, 3.0])]
    assert search(slots, lambda counts: cost_of(slots, counts), 2.0) == (2,)
