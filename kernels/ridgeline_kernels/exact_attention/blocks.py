"""Which blocks of keys a tile of queries visits, and in what order.

The softmax does not mind the order, so a tile makes two loops: over *plain* blocks, where every query sees every key,
every key is there, and a relative bias is one number; and over *edge* blocks, with masks and a gathered bias: the ends
of the window, the causal diagonal, the end of the sequence, the keys near enough for a relative bias to vary. Blocks
that no query of the tile sees are in neither. Along the keys, edge and plain blocks take turns between six bounds:

    bounds[0] edge bounds[1] plain bounds[2] edge bounds[3] plain bounds[4] edge bounds[5]
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_bounds(
    first,
    last,
    k_len,
    left,
    right,
    reach,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    HAS_NEAR: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """The six bounds, in blocks, for queries at the key positions first to last, which see [-left, +right] around them.

    HAS_NEAR: keys at a distance below `reach` of a query belong to edge blocks
    """
    begin = 0
    whole_begin = 0
    end = k_len
    whole_end = k_len
    if HAS_LEFT:
        begin = tl.minimum(tl.maximum(first - left, 0), k_len)
        whole_begin = tl.maximum(last - left, 0)
    if HAS_RIGHT:
        end = tl.maximum(tl.minimum(last + right + 1, k_len), begin)
        whole_end = tl.maximum(tl.minimum(first + right + 1, k_len), 0)
    b0 = begin // BLOCK_N
    b5 = tl.cdiv(end, BLOCK_N)
    b1 = tl.minimum(tl.maximum(tl.cdiv(whole_begin, BLOCK_N), b0), b5)
    b4 = tl.minimum(tl.maximum(whole_end // BLOCK_N, b1), b5)
    b2 = b1
    b3 = b1
    if HAS_NEAR:
        b2 = tl.minimum(tl.maximum(tl.maximum(first - reach + 1, 0) // BLOCK_N, b1), b4)
        b3 = tl.minimum(tl.maximum(tl.cdiv(tl.maximum(last + reach, 0), BLOCK_N), b2), b4)
    return b0, b1, b2, b3, b4, b5


@triton.jit
def plain_block(turn, b1, b2, b3, HAS_NEAR: tl.constexpr):
    """The block of turn number `turn` of the plain loop."""
    block = b1 + turn
    if HAS_NEAR:
        block = tl.where(block >= b2, block + (b3 - b2), block)
    return block


@triton.jit
def edge_block(turn, b0, b1, b2, b3, b4):
    """The block of turn number `turn` of the edge loop."""
    block = b0 + turn
    block = tl.where(block >= b1, block + (b2 - b1), block)
    return tl.where(block >= b3, block + (b4 - b3), block)


@triton.jit
def is_visible(
    q_pos,
    k_pos,
    k_len,
    left,
    right,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
):
    """Which keys each query sees: bool [BLOCK_M, BLOCK_N] of positions among the keys."""
    mask = (k_pos < k_len)[None, :]
    if HAS_LEFT:
        mask = mask & (k_pos[None, :] >= q_pos[:, None] - left)
    if HAS_RIGHT:
        mask = mask & (k_pos[None, :] <= q_pos[:, None] + right)
    return mask
