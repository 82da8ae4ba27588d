"""The largest score and the sum of exponentials of rows that come block by block (Milakov and Gimelshein, 2018)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exp(x):
    """e^x, without the care for results under 2^-126, which are 0 here, that takes half of tl.exp's instructions."""
    return tl.exp2(x * 1.4426950408889634)


@triton.jit
def add_block(largest, total, scores):
    """Take in a block of scores, fp32 [rows, block]; -inf takes no part.

    largest, total: fp32 [rows], -inf and 0 at first: the largest score, and the sum of exp(score - finite(largest))
    """
    new_largest = tl.maximum(largest, tl.max(scores, axis=1))
    shift = finite(new_largest)
    return new_largest, total * exp(largest - shift) + tl.sum(exp(scores - shift[:, None]), axis=1)


@triton.jit
def finite(largest):
    """What to take away from scores before exp: the largest, or 0 where there is none, as -inf - -inf is NaN."""
    return tl.where(largest == float("-inf"), 0.0, largest)
