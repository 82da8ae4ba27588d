"""What is done to the scores of a block before the softmax."""

from __future__ import annotations

import triton
import triton.language as tl

from ridgeline_kernels.language.activations import tanh


@triton.jit
def scaled(scores, scale, softcap, HAS_SOFTCAP: tl.constexpr):
    """scale · scores, or softcap · tanh(scale · scores / softcap)."""
    if HAS_SOFTCAP:
        return tanh(scores * (scale / softcap)) * softcap
    else:
        return scores * scale


@triton.jit
def add_biases(
    scores,
    q_pos,
    k_pos,
    slope,
    relative_ptr,
    reach,
    is_after,
    bias_ptr,
    bias_stride,
    bias_rows,
    bias_cols,
    HAS_ALIBI: tl.constexpr,
    BIAS_ALIGNED: tl.constexpr,
    IS_PLAIN: tl.constexpr,
):
    """Add the biases of one head that there are; a pointer that is None stands for none.

    q_pos, k_pos:  positions among the keys
    slope:         of ALiBi
    bias_ptr:      at the bias of the tile's first query; bias_rows: how many of the tile's queries have one
    BIAS_ALIGNED:  the bias' rows and their number of columns are multiples of 8 elements
    IS_PLAIN:      every key is at least `reach` away, so that the relative bias is one of its two ends: the last if
                   the keys come after the queries (is_after), else the first
    """
    if HAS_ALIBI:
        scores -= slope * tl.abs(k_pos[None, :] - q_pos[:, None]).to(tl.float32)
    if relative_ptr is not None:
        if IS_PLAIN:
            scores += tl.load(relative_ptr + tl.where(is_after, 2 * reach, 0)).to(tl.float32)
        else:
            distance = tl.minimum(tl.maximum(k_pos[None, :] - q_pos[:, None], -reach), reach)
            scores += tl.load(relative_ptr + distance + reach).to(tl.float32)
    if bias_ptr is not None:
        row_offs = tl.arange(0, scores.shape[0])
        if BIAS_ALIGNED:
            bias_stride = tl.multiple_of(bias_stride, 8)
            bias_cols = tl.multiple_of(bias_cols, 8)
        mask = (row_offs < bias_rows)[:, None] & (k_pos < bias_cols)[None, :]
        ptrs = bias_ptr + row_offs[:, None] * bias_stride + k_pos[None, :]
        scores += tl.load(ptrs, mask=mask, other=0.0).to(tl.float32)
    return scores
