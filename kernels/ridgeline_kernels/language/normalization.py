"""Rows normalized in registers."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def normalize_rows(x, mask, dim, eps, KIND: tl.constexpr):
    """Rows divided by the root of their mean square plus eps; KIND "layer" first takes away their mean.

    x: fp32 [rows, block], zero from column `dim` on, where `mask` is false. The variance is that of the differences
    from the mean, which are at hand: the difference of two large sums would lose digits.
    """
    if KIND == "layer":
        x = tl.where(mask, x - (tl.sum(x, axis=1) / dim)[:, None], 0.0)
    else:
        tl.static_assert(KIND == "rms", "unknown kind of norm")
    return x * tl.rsqrt(tl.sum(x * x, axis=1) / dim + eps)[:, None]


@triton.jit
def load_columns(ptr, col_offs, dim):
    """A vector of `dim` elements over all rows of a tile: fp32 [1, block]."""
    return tl.load(ptr + col_offs, mask=col_offs < dim, other=0.0).to(tl.float32)[None, :]
