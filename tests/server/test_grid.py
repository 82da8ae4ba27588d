"""The grid of shapes: bounded, covering, and never larger than asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_server.runtimes.grid import MAX_SHAPES, ShapeGrid, make_grid

sizes = st.integers(min_value=1, max_value=200_000)


@given(max_tokens=sizes, budget=sizes)
def test_grid_is_bounded_and_covers_every_length(max_tokens: int, budget: int) -> None:
    grid = make_grid(max_tokens, budget)
    assert len(grid.shapes) <= MAX_SHAPES
    assert list(grid.lengths) == sorted(set(grid.lengths))
    assert grid.lengths[-1] == max_tokens
    assert all(choices[0] == 1 for choices in grid.rows)
    assert all(rows * length <= budget or rows == 1 for rows, length in grid.shapes)


@given(max_tokens=sizes, budget=sizes, data=st.data())
def test_a_sequence_of_any_length_fits_alone(max_tokens: int, budget: int, data: st.DataObject) -> None:
    grid = make_grid(max_tokens, budget)
    length = data.draw(st.integers(1, max_tokens))
    rows, executed = grid.fit(1, length)
    assert rows == 1
    assert executed >= length
    bucket = grid.bucket(length)
    assert bucket == 0 or grid.lengths[bucket - 1] < length <= grid.lengths[bucket]


def test_fit_takes_the_smallest_row_count_that_holds_the_batch() -> None:
    grid = ShapeGrid((16, 32), ((1, 4, 16), (1, 8)))
    assert grid.fit(1, 16) == (1, 16)
    assert grid.fit(2, 10) == (4, 16)
    assert grid.fit(5, 16) == (16, 16)
    assert grid.fit(2, 17) == (8, 32)


def test_what_does_not_fit_is_an_error() -> None:
    grid = ShapeGrid((16, 32), ((1, 4), (1, 2)))
    with pytest.raises(ValueError, match="33 tokens does not fit a grid up to 32"):
        grid.bucket(33)
    with pytest.raises(ValueError, match="5 sequences of up to 16 tokens"):
        grid.fit(5, 16)
    with pytest.raises(ValueError, match="at least 1"):
        make_grid(0, 16)


@pytest.mark.parametrize(("waiting", "rows"), [(1, 1), (3, 4), (4, 4), (9, 4), (14, 16), (16, 16), (100, 16)])
def test_best_rows_serves_most_sequences_per_executed_token(waiting: int, rows: int) -> None:
    assert ShapeGrid((16,), ((1, 4, 16),)).best_rows(0, waiting) == rows
