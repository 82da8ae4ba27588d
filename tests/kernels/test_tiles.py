"""`find_tile` against counting tiles one by one, in a kernel that does nothing else."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ridgeline_kernels.language.tiles import column_block, find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.op import kernels_everywhere
from ridgeline_kernels.packing import cu_seqlens_of, max_tiles


@triton.jit
def _tiles_kernel(cu_seqlens_ptr, out_ptr, num_seqs, num_tokens, BLOCK: tl.constexpr):
    tile = tl.program_id(0)
    seq, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK)
    tl.store(out_ptr + tile * 4, seq)
    tl.store(out_ptr + tile * 4 + 1, start)
    tl.store(out_ptr + tile * 4 + 2, length)
    tl.store(out_ptr + tile * 4 + 3, first)


def found_tiles(cu_seqlens: torch.Tensor, tokens: int, block: int) -> list[tuple[int, ...]]:
    """What every program finds: sequence, its start, its length, first token of the tile within it."""
    sequences = cu_seqlens.numel() - 1
    tiles = max_tiles(tokens, sequences, block)
    out = torch.full((tiles, 4), -7, dtype=torch.int32, device=cu_seqlens.device)
    launch(_tiles_kernel, (tiles,), cu_seqlens, out, sequences, tokens, BLOCK=block)
    return [tuple(row) for row in out.tolist()]


def counted_tiles(lengths: list[int], block: int) -> list[tuple[int, ...]]:
    """Every tile that holds a token, counted one by one."""
    tiles, start = [], 0
    for index, length in enumerate(lengths):
        tiles += [(index, start, length, first) for first in range(0, length, block)]
        start += length
    return tiles


def check(lengths: list[int], block: int, device: torch.device | str = "cpu") -> None:
    found = found_tiles(cu_seqlens_of(lengths, device), sum(lengths), block)
    assert [tile for tile in found if tile[3] < tile[2]] == counted_tiles(lengths, block)
    assert all(tile[3] >= 0 for tile in found)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 70), min_size=1, max_size=8), st.sampled_from([1, 16, 32, 64]))
@example([0, 0, 5, 0], 16)
@example([16, 16], 16)
def test_every_tile_is_found_once(lengths: list[int], block: int) -> None:
    with kernels_everywhere():
        check(lengths, block)


@pytest.mark.parametrize(
    "lengths",
    [[1] * 256, [1, 0] * 128 + [40], [0] * 200 + [70] + [0] * 100],
    ids=["256", "257", "empty but one"],
)
def test_more_sequences_than_are_counted_at_once(device: torch.device, lengths: list[int]) -> None:
    check(lengths, 16, device)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-50, 150), min_size=2, max_size=10), st.integers(1, 100))
@example([-1000] * 9, 100)
@example([0, 1000, 0, 50], 100)
def test_whatever_the_bounds_hold_tiles_stay_inside_the_tokens(bounds: list[int], tokens: int) -> None:
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    with kernels_everywhere():
        for sequence, start, length, first in found_tiles(cu_seqlens, tokens, 16):
            assert 0 <= sequence < len(bounds) - 1
            assert 0 <= start <= start + length <= tokens
            assert first >= 0


@pytest.mark.parametrize(
    ("dim", "block"),
    [(1, 1), (9, 16), (64, 64), (80, 128), (384, 128), (768, 256), (1024, 1024), (2624, 64), (5000, 1024), (0, 1)],
)
def test_a_column_block_divides_the_row_where_it_can(dim: int, block: int) -> None:
    assert column_block(dim, 1024) == block
