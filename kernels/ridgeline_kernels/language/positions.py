"""Positions of tokens within packed sequences."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def find_positions(tokens, cu_seqlens_ptr, num_seqs, search_steps):
    """Position of each of `tokens`, int32 [rows], in its sequence, by bisection of cu_seqlens.

    search_steps: `(num_seqs - 1).bit_length()`. Only cu_seqlens is read, and within its bounds, whatever it holds; then
    the positions are whatever they come to.
    """
    low = tokens * 0
    high = low + num_seqs
    for _ in range(search_steps):
        middle = (low + high) // 2
        is_at_or_after = tl.load(cu_seqlens_ptr + middle) <= tokens
        low = tl.where(is_at_or_after, middle, low)
        high = tl.where(is_at_or_after, high, middle)
    return tokens - tl.load(cu_seqlens_ptr + low)
