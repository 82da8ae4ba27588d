"""Candidates of the element-wise ops and of those that reduce rows."""

from __future__ import annotations

from itertools import product

from ridgeline_kernels.tune.grids import THREADS_A_WARP, WARPS, Parameters, Space, fixed, grid, size_of


def whole_rows(shape_class: str) -> tuple[Parameters, ...]:
    """For kernels that hold whole rows in registers: 8 to 64 elements a thread, up to 8,192 a program of many rows."""
    size = size_of(shape_class)
    return tuple(
        {"ROWS": rows, "num_warps": warps}
        for rows, warps in product((1, 2, 4, 8, 16), WARPS)
        if (rows == 1 or rows * size <= 8192) and 8 <= rows * size // (warps * THREADS_A_WARP) <= 64
    )


def few_rows(shape_class: str) -> tuple[Parameters, ...]:
    """`whole_rows`, and where rows are so short that few of these fit, more of them."""
    return whole_rows(shape_class) if size_of(shape_class) >= 128 else grid(ROWS=(8, 16, 32), num_warps=(1, 2, 4))


def quantized_rows(shape_class: str) -> tuple[Parameters, ...]:
    """`few_rows`, or blocks of rows too wide to be held."""
    if shape_class == "wide":
        return grid(BLOCK_D=(2048, 4096, 8192, 16384), num_warps=(8, 16, 32))
    return few_rows(shape_class)


def softmax(shape_class: str) -> tuple[Parameters, ...]:
    """Rows whole, or in blocks where they are too long for it."""
    if shape_class == "long":
        return grid(BLOCK_BYTES=(4096, 8192, 16384, 32768), num_warps=(8, 16, 32))
    size = size_of(shape_class)
    return tuple(
        {"TILE": tile, "num_warps": warps}
        for tile, warps in product((1024, 2048, 4096, 8192, 16384, 32768), WARPS)
        if size <= tile <= max(8192, size) and 8 <= tile // (warps * THREADS_A_WARP) <= 32
    )


def tiles(*sizes: int) -> Space:
    """For kernels that take an element at a time: 8 to 64 elements a thread."""
    return fixed(
        tuple(
            {"TILE": size, "num_warps": warps}
            for size, warps in product(sizes, WARPS)
            if 8 <= size // (warps * THREADS_A_WARP) <= 64
        )
    )


def pool(shape_class: str) -> tuple[Parameters, ...]:
    """Sums of tiles of tokens, and what finishes them."""
    if shape_class.startswith("tiles"):
        return grid(BLOCK_T=(32, 64, 128, 256), TILE_BYTES=(4096, 8192, 16384), num_warps=(2, 4))
    warps = (4, 8) if size_of(shape_class) <= 8192 else (16, 32)
    return grid(BLOCK_D=(128, 256, 512), TILE_BYTES=(8192, 16384), num_warps=warps)
