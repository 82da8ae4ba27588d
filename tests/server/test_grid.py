"""The grid of shapes: bounded, covering, and never larger than asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_server.runtimes.grid import MAX_SHAPES, ShapeGrid, make_grid

sizes = st.integers(min_value=1, max_value=200_000)


def test_most_tokens_are_those_of_the_largest_shape() -> None:
    assert ShapeGrid(((1, 64), (8, 16), (2, 32))).most_tokens == 128


@given(max_tokens=sizes, budget=sizes)
def test_grid_is_bounded_and_covers_every_length(max_tokens: int, budget: int) -> None:
    grid = make_grid(max_tokens, budget)
    assert 1 <= len(grid.shapes) == len(set(grid.shapes)) <= MAX_SHAPES
    assert list(grid.lengths) == sorted(set(grid.lengths))
    assert grid.lengths[-1] == max_tokens
    assert all(rows * length <= budget or rows == 1 for rows, length in grid.shapes)


@given(max_tokens=sizes, budget=sizes, data=st.data())
def test_a_sequence_of_any_length_fits_alone(max_tokens: int, budget: int, data: st.DataObject) -> None:
    grid = make_grid(max_tokens, budget)
    length = data.draw(st.integers(1, max_tokens))
    _, executed = grid.fit(1, length)
    assert executed >= length
    bucket = grid.bucket(length)
    assert bucket == 0 or grid.lengths[bucket - 1] < length <= grid.lengths[bucket]


@given(max_tokens=st.integers(1, 8192), budget=st.integers(1, 16384))
def test_a_lone_sequence_never_costs_more_than_twice_its_tokens(max_tokens: int, budget: int) -> None:
    grid = make_grid(max_tokens, budget)
    for length in range(17, max_tokens + 1, 97):
        rows, executed = grid.fit(1, length)
        assert rows * executed <= max(2 * length, 32)


@pytest.mark.parametrize("budget", [256, 512, 4096])
def test_a_larger_budget_brings_more_rows_to_short_lengths(budget: int) -> None:
    assert max(rows for rows, length in make_grid(256, budget).shapes if length <= 64) <= budget // 16
    assert max(rows for rows, _ in make_grid(256, 2 * budget).shapes) >= max(
        rows for rows, _ in make_grid(256, budget).shapes
    )


def test_a_dear_call_asks_for_more_rows() -> None:
    def rows(overhead_tokens: int) -> int:
        return sum(rows for rows, _ in make_grid(512, 16_384, overhead_tokens).shapes)

    assert rows(4096) > 2 * rows(40)


def test_fit_takes_the_fewest_tokens_that_hold_the_batch() -> None:
    grid = ShapeGrid(((1, 16), (4, 16), (16, 16), (1, 32), (8, 32)))
    assert grid.fit(1, 16) == (1, 16)
    assert grid.fit(2, 10) == (4, 16)
    assert grid.fit(5, 16) == (16, 16)
    assert grid.fit(2, 17) == (8, 32)
    assert ShapeGrid(((4, 16), (1, 32))).fit(1, 10) == (1, 32)


def test_what_does_not_fit_is_an_error() -> None:
    grid = ShapeGrid(((1, 16), (4, 16), (1, 32), (2, 32)))
    with pytest.raises(ValueError, match="33 tokens does not fit a grid up to 32"):
        grid.bucket(33)
    with pytest.raises(ValueError, match="5 sequences of up to 16 tokens"):
        grid.fit(5, 16)
    with pytest.raises(ValueError, match="at least 1"):
        make_grid(0, 16)
