"""From a program's number to its tile of a packed sequence."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK: tl.constexpr):
    """Sequence of tile number `tile` when every sequence is cut into tiles of BLOCK tokens.

    Sequence i's tiles are numbered from cu_seqlens[i] // BLOCK + i (see `packing.max_tiles`), so the sequence is the
    last one whose first number is at most `tile`: counted 256 sequences at a time, one round of loads for most batches.
    Returns (sequence, its first token, its length, first token of the tile within it); the tile is empty when the last
    is at least the length. Bounds are held within num_tokens, whatever cu_seqlens holds.
    """
    counts = tl.zeros([256], tl.int32)
    for first in range(0, num_seqs, 256):
        seq_offs = first + tl.arange(0, 256)
        starts = tl.load(cu_seqlens_ptr + seq_offs, mask=seq_offs < num_seqs, other=0)
        counts += ((seq_offs < num_seqs) & (starts // BLOCK + seq_offs <= tile)).to(tl.int32)
    seq = tl.maximum(tl.sum(counts, axis=0) - 1, 0)
    start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    end = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq + 1), start), num_tokens)
    return seq, start, end - start, tl.maximum(tile - (start // BLOCK + seq), 0) * BLOCK


def column_block(dim: int, largest: int) -> int:
    """Columns of a tile of rows of `dim` numbers: a power of two, at most `largest`.

    The largest one that divides dim, so that nothing is masked; where that is under 64, one that covers what it can.
    """
    dim = max(dim, 1)
    divisor = min(dim & -dim, largest)
    return divisor if divisor >= 64 or divisor == dim else min(triton.next_power_of_2(dim), largest)
