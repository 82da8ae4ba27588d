"""From a program's number to its tile of a packed sequence."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK: tl.constexpr):
    """Sequence of tile number `tile` when every sequence is cut into tiles of BLOCK tokens.

    Sequence i's tiles are numbered from cu_seqlens[i] // BLOCK + i (see `packing.max_tiles`), so the sequence is the
    last one whose first number is at most `tile`: counted 128 sequences at a time, one round of loads for most batches.
    Returns (sequence, its first token, its length, first token of the tile within it); the tile is empty when the last
    is at least the length. Bounds are held within num_tokens, whatever cu_seqlens holds.
    """
    count = 0
    for first in range(0, num_seqs, 128):
        seq_offs = first + tl.arange(0, 128)
        starts = tl.load(cu_seqlens_ptr + seq_offs, mask=seq_offs < num_seqs, other=0)
        is_before = (seq_offs < num_seqs) & (starts // BLOCK + seq_offs <= tile)
        count += tl.sum(is_before.to(tl.int32), axis=0)
    seq = tl.maximum(count - 1, 0)
    start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    end = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq + 1), start), num_tokens)
    return seq, start, end - start, (tile - (start // BLOCK + seq)) * BLOCK
