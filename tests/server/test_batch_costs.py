"""What batches cost, kept current."""

import pytest

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.runtimes.grid import ShapeGrid

GRID = ShapeGrid(((1, 16), (4, 16), (1, 64)))


def test_a_sequence_is_worth_what_it_costs_in_the_best_full_batch() -> None:
    costs = BatchCosts(GRID, {(1, 16): 2.0, (4, 16): 4.0, (1, 64): 3.0})
    assert costs.values == [1.0, 3.0]
    assert costs.token_s == pytest.approx(3.0 / 64)
    assert costs.least_s == 2.0


def test_a_longer_shape_that_is_cheaper_sets_the_worth_of_shorter_sequences() -> None:
    assert BatchCosts(GRID, {(1, 16): 9.0, (4, 16): 40.0, (1, 64): 3.0}).values == [3.0, 3.0]


def test_costs_follow_what_is_observed() -> None:
    costs = BatchCosts(GRID, {(1, 16): 1.0, (4, 16): 4.0, (1, 64): 3.0})
    for _ in range(200):
        costs.observe((1, 64), 6.0)
    assert costs[(1, 64)] == pytest.approx(6.0, rel=0.01)
    assert costs.values[1] == pytest.approx(6.0, rel=0.01)
    assert costs[(4, 16)] == 4.0


def test_one_interrupted_batch_changes_little() -> None:
    costs = BatchCosts(GRID, {(1, 16): 1.0, (4, 16): 4.0, (1, 64): 3.0})
    costs.observe((1, 64), 3000.0)
    assert costs[(1, 64)] < 3.2
