"""The online softmax of FlashAttention-2 (Dao, 2023): a row's largest score and its sum follow the blocks of keys."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
"""Scores are in units of log 2, so that exp2, one instruction on a GPU, is all that the softmax needs."""


@triton.jit
def online_softmax(scores, factor, row_max, row_sum, HAS_ABSENT: tl.constexpr):
    """Take in a block of scores [BLOCK_M, BLOCK_N] fp32; `factor` > 0 brings them to units of log 2.

    HAS_ABSENT: some scores may be -inf, even all of a row's
    Returns the block's weights, the factor for what was summed up before, and the new row_max and row_sum.
    """
    new_max = tl.maximum(row_max, tl.max(scores, axis=1) * factor)
    base = new_max
    if HAS_ABSENT:
        base = tl.where(new_max == float("-inf"), 0.0, new_max)
    weights = tl.exp2(scores * factor - base[:, None])
    rescale = tl.exp2(row_max - base)
    return weights, rescale, new_max, row_sum * rescale + tl.sum(weights, axis=1)
