"""The iteration of a pseudo-inverse on matrices too large for one program's registers: they stay in the L2 cache."""

from __future__ import annotations

import triton
import triton.language as tl

MATRICES = tl.constexpr(5)
"""How many fp32 [SIZE, SIZE] matrices a program needs, one after the other: A, Z and three between."""


@triton.jit
def _multiply(
    x_ptr, y_ptr, out_ptr, DIAGONAL: tl.constexpr, FACTOR: tl.constexpr, X_FACTOR: tl.constexpr,
    SIZE: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out = DIAGONAL · I + FACTOR · x y + X_FACTOR · x, for the whole program: out may be read after it."""
    col_offs = tl.arange(0, SIZE)
    for row in range(0, SIZE, ROWS):
        row_offs = row + tl.arange(0, ROWS)
        out = tl.zeros([ROWS, SIZE], tl.float32)
        for first in range(0, SIZE, BLOCK_K):
            k_offs = first + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + row_offs[:, None] * SIZE + k_offs[None, :])
            y = tl.load(y_ptr + k_offs[:, None] * SIZE + col_offs[None, :])
            out = tl.dot(x, y, out, input_precision="tf32x3")
        tile = row_offs[:, None] * SIZE + col_offs[None, :]
        out *= FACTOR
        if DIAGONAL != 0:
            out += tl.where(row_offs[:, None] == col_offs[None, :], DIAGONAL, 0.0)
        if X_FACTOR != 0:
            out += X_FACTOR * tl.load(x_ptr + tile)
        tl.store(out_ptr + tile, out)
    tl.debug_barrier()


@triton.jit
def iterate_in_memory(
    a_ptr, column_sum, ITERATIONS: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, BLOCK_K: tl.constexpr
):
    """Where Z lies after the iterations, among the matrices from a_ptr on, which begin with A.

    column_sum: the largest sum of a column of A
    """
    z_ptr = a_ptr + SIZE * SIZE
    p_ptr = z_ptr + SIZE * SIZE
    t_ptr = p_ptr + SIZE * SIZE
    u_ptr = t_ptr + SIZE * SIZE
    tl.debug_barrier()
    col_offs = tl.arange(0, SIZE)
    for row in range(0, SIZE, ROWS):
        row_offs = row + tl.arange(0, ROWS)
        a = tl.load(a_ptr + row_offs[:, None] * SIZE + col_offs[None, :])
        tl.store(z_ptr + col_offs[None, :] * SIZE + row_offs[:, None], a / column_sum)
    tl.debug_barrier()
    for _ in range(ITERATIONS):
        _multiply(a_ptr, z_ptr, p_ptr, 0.0, 1.0, 0.0, SIZE, ROWS, BLOCK_K)
        # 15 I - P (7 I - P)
        _multiply(p_ptr, p_ptr, t_ptr, 15.0, 1.0, -7.0, SIZE, ROWS, BLOCK_K)
        _multiply(p_ptr, t_ptr, u_ptr, 13.0, -1.0, 0.0, SIZE, ROWS, BLOCK_K)
        _multiply(z_ptr, u_ptr, t_ptr, 0.0, 0.25, 0.0, SIZE, ROWS, BLOCK_K)
        z_ptr, t_ptr = t_ptr, z_ptr
    return z_ptr
