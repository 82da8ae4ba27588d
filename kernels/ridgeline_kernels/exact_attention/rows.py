"""Tiles of rows, their head_dim in one or two pieces.

A head_dim like 80 or 96 is read as 64 + 16 or 64 + 32 columns instead of 128: BLOCK_D and TAIL, which is 0 for powers
of two. What belongs to the tail is the number 0 where there is none.
"""

from __future__ import annotations

import triton
import triton.language as tl


def split_head_dim(head_dim: int) -> tuple[int, int]:
    """BLOCK_D and TAIL for a head_dim: 64 → (64, 0), 80 → (64, 16), 112 → (128, 0)."""
    whole = max(triton.next_power_of_2(head_dim), 16)
    half = whole // 2
    tail = max(triton.next_power_of_2(head_dim - half), 16) if head_dim > half >= 16 else half
    return (half, tail) if tail < half else (whole, 0)


@triton.jit
def load_piece(
    ptr, stride, row_offs, row_count, HEAD_DIM: tl.constexpr, FIRST: tl.constexpr, SIZE: tl.constexpr, ALL: tl.constexpr
):
    """SIZE columns from FIRST of the rows `row_offs`; 0 past row_count and HEAD_DIM. ALL: no row is past row_count."""
    col_offs = FIRST + tl.arange(0, SIZE)
    ptrs = ptr + row_offs[:, None] * stride + col_offs[None, :]
    if FIRST + SIZE > HEAD_DIM:
        mask = (col_offs < HEAD_DIM)[None, :]
        if not ALL:
            mask = mask & (row_offs < row_count)[:, None]
        return tl.load(ptrs, mask=mask, other=0.0)
    elif ALL:
        return tl.load(ptrs)
    else:
        return tl.load(ptrs, mask=(row_offs < row_count)[:, None], other=0.0)


@triton.jit
def load_rows(
    ptr,
    stride,
    row_offs,
    row_count,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    ALL: tl.constexpr,
):
    """The rows `row_offs` of HEAD_DIM columns, in two pieces."""
    rows = load_piece(ptr, stride, row_offs, row_count, HEAD_DIM, 0, BLOCK_D, ALL)
    tail = 0
    if TAIL > 0:
        tail = load_piece(ptr, stride, row_offs, row_count, HEAD_DIM, BLOCK_D, TAIL, ALL)
    return rows, tail


@triton.jit
def dot_rows(a, a_tail, b, b_tail, TAIL: tl.constexpr, PRECISION: tl.constexpr):
    """a bᵀ: [rows of a, rows of b] fp32."""
    product = tl.dot(a, tl.trans(b), input_precision=PRECISION)
    if TAIL > 0:
        product = tl.dot(a_tail, tl.trans(b_tail), product, input_precision=PRECISION)
    return product


@triton.jit
def accumulate(acc, acc_tail, rescale, weights, v, v_tail, TAIL: tl.constexpr, PRECISION: tl.constexpr):
    """acc · rescale + weights v, the weights in v's dtype."""
    weights = weights.to(v.dtype)
    acc = tl.dot(weights, v, acc * rescale[:, None], input_precision=PRECISION)
    if TAIL > 0:
        acc_tail = tl.dot(weights, v_tail, acc_tail * rescale[:, None], input_precision=PRECISION)
    return acc, acc_tail


@triton.jit
def store_rows(
    ptr, stride, row_offs, row_count, rows, tail, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, TAIL: tl.constexpr
):
    """Store what `load_rows` loads, in the dtype of ptr."""
    col_offs = tl.arange(0, BLOCK_D)
    mask = (row_offs < row_count)[:, None]
    ptrs = ptr + row_offs[:, None] * stride
    tl.store(ptrs + col_offs[None, :], rows.to(ptr.dtype.element_ty), mask=mask & (col_offs < HEAD_DIM)[None, :])
    if TAIL > 0:
        tail_offs = BLOCK_D + tl.arange(0, TAIL)
        tail_mask = mask & (tail_offs < HEAD_DIM)[None, :]
        tl.store(ptrs + tail_offs[None, :], tail.to(ptr.dtype.element_ty), mask=tail_mask)
