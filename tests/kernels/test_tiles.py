"""Programs and the tiles they find."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from ridgeline_kernels.language.tiles import column_block, find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.packing import cu_seqlens_of, max_tiles


@triton.jit
def _find_kernel(cu_seqlens_ptr, out_ptr, num_seqs, num_tokens, BLOCK: tl.constexpr):
    tile = tl.program_id(0)
    seq, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK)
    tl.store(out_ptr + tile * 4, seq)
    tl.store(out_ptr + tile * 4 + 1, start)
    tl.store(out_ptr + tile * 4 + 2, length)
    tl.store(out_ptr + tile * 4 + 3, first)


def found(cu_seqlens: torch.Tensor, tokens: int, block: int) -> list[tuple[int, ...]]:
    sequences = cu_seqlens.numel() - 1
    tiles = max_tiles(tokens, sequences, block)
    out = torch.empty(tiles, 4, dtype=torch.int32, device=cu_seqlens.device)
    launch(_find_kernel, (tiles,), cu_seqlens, out, sequences, tokens, BLOCK=block)
    return [tuple(row) for row in out.tolist()]


@pytest.mark.parametrize(
    "lengths",
    [[1], [0, 0, 5], [16, 0, 32, 1, 15, 17, 0], [1, 0] * 300, [700, *[0] * 257, 3]],
    ids=["one", "empty first", "edges", "600 sequences", "many empty"],
)
def test_every_token_is_in_one_tile_of_its_sequence(device: torch.device, lengths: list[int]) -> None:
    cu_seqlens = cu_seqlens_of(lengths, device)
    bounds = cu_seqlens.tolist()
    used = [tile for tile in found(cu_seqlens, sum(lengths), 16) if tile[3] < tile[2]]
    expected = [
        (seq, bounds[seq], length, first) for seq, length in enumerate(lengths) for first in range(0, length, 16)
    ]
    assert used == expected


def test_bounds_outside_the_tokens_are_held_inside(device: torch.device) -> None:
    cu_seqlens = torch.tensor([-5, 40, 20, 900], dtype=torch.int32, device=device)
    for _, start, length, _ in found(cu_seqlens, 64, 16):
        assert 0 <= start <= 64
        assert 0 <= length <= 64 - start


@pytest.mark.parametrize(
    ("dim", "block"),
    [(1, 1), (9, 16), (64, 64), (80, 128), (384, 128), (768, 256), (1024, 1024), (2624, 64), (5000, 1024), (0, 1)],
)
def test_a_column_block_divides_the_row_where_it_can(dim: int, block: int) -> None:
    assert column_block(dim, 1024) == block
