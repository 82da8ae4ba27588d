"""Buckets of total tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline_kernels.packed.buckets import token_steps
from ridgeline_server.runtimes.grid import Grid, ShapeGrid
from ridgeline_server.runtimes.token_grid import TokenGrid, make_token_grid


@given(max_tokens=st.integers(1, 9000), budget=st.integers(1, 70_000), tokens=st.integers(1, 9000))
def test_a_batch_runs_in_the_smallest_bucket_that_holds_it(max_tokens: int, budget: int, tokens: int) -> None:
    grid = make_token_grid(max_tokens, budget)
    assert grid.most_tokens == max(max_tokens, budget) and list(grid.buckets) == sorted(set(grid.buckets))
    lengths = [length for length in (tokens // 2, tokens - tokens // 2) if length]
    if tokens > grid.most_tokens:
        with pytest.raises(ValueError, match=f"{tokens} tokens do not fit a grid up to {grid.most_tokens}"):
            grid.shape_of(lengths)
        return
    rows, bucket = grid.shape_of(lengths)
    assert grid.shape_of(np.array(lengths, np.int32)) == (rows, bucket) in grid.shapes
    assert rows == 1 and tokens <= bucket
    assert not any(tokens <= other < bucket for other in grid.buckets)
    assert tokens <= 256 or bucket < 1.26 * tokens


@pytest.mark.parametrize("max_tokens", [1, 16, 100, 512, 8192])
def test_a_bucket_is_filled_to_the_last_token(max_tokens: int) -> None:
    grid = make_token_grid(max_tokens, 1000)
    for shape in grid.shapes:
        lengths = grid.full_lengths(shape)
        assert grid.shape_of(lengths) == shape and sum(lengths) == shape[1]
        assert 0 < min(lengths) <= max(lengths) <= max_tokens


def test_the_buckets_are_those_that_the_kernels_make_graphs_for() -> None:
    assert make_token_grid(512, 16_384).buckets == token_steps(16_384)


@pytest.mark.parametrize(("max_tokens", "budget"), [(0, 16), (16, 0)])
def test_a_grid_needs_room(max_tokens: int, budget: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        make_token_grid(max_tokens, budget)


def test_a_padded_grid_says_the_same_of_its_shapes() -> None:
    grid: Grid = ShapeGrid(((1, 16), (4, 16), (2, 32)))
    assert not grid.is_packed and TokenGrid((16,)).is_packed
    assert grid.shape_of([3, 16]) == grid.shape_of(np.array([16, 3], np.int32)) == (4, 16)
    assert grid.shape_of(grid.full_lengths((2, 32))) == (2, 32)
