"""The candidates that the tuner tries: for each op a handful of launch parameters, fitted to the shape class.

A candidate is laid over the shipped entry of the shape class: what it does not name stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

Parameters = Mapping[str, Any]
Space = Callable[[str], tuple[Parameters, ...]]
"""Shape class → candidates."""

WARPS = (1, 2, 4, 8, 16, 32)
_THREADS_A_WARP = 32


def grid(**choices: tuple[Any, ...]) -> tuple[Parameters, ...]:
    """Every combination of the choices of each parameter."""
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def fixed(*grids: tuple[Parameters, ...]) -> Space:
    """The same candidates for every shape class."""
    candidates = tuple(candidate for each in grids for candidate in each)
    return lambda shape_class: candidates


def size_of(shape_class: str) -> int:
    """The first number of a shape class: 1024 of "dim<=1024"; 1024 where there is none."""
    found = re.search(r"\d+", shape_class)
    return int(found[0]) if found else 1024


def whole_rows(shape_class: str) -> tuple[Parameters, ...]:
    """For kernels that hold whole rows in registers: 8 to 64 elements a thread, up to 8,192 a program of many rows."""
    size = size_of(shape_class)
    return tuple(
        {"ROWS": rows, "num_warps": warps}
        for rows, warps in product((1, 2, 4, 8, 16), WARPS)
        if (rows == 1 or rows * size <= 8192) and 8 <= rows * size // (warps * _THREADS_A_WARP) <= 64
    )


def few_rows(shape_class: str) -> tuple[Parameters, ...]:
    """`whole_rows`, and where rows are so short that few of these fit, more of them."""
    found = whole_rows(shape_class)
    return found if len(found) > 3 else grid(ROWS=(16, 32, 64), num_warps=(1, 2, 4))


def softmax(shape_class: str) -> tuple[Parameters, ...]:
    """Rows whole, or in blocks where they are too long for it."""
    if shape_class == "long":
        return grid(BLOCK_N=(2048, 4096, 8192, 16384), num_warps=(8, 16, 32))
    size = size_of(shape_class)
    return tuple(
        {"TILE": tile, "num_warps": warps}
        for tile, warps in product((1024, 2048, 4096, 8192, 16384, 32768), WARPS)
        if size <= tile <= max(8192, size) and 8 <= tile // (warps * _THREADS_A_WARP) <= 32
    )


def tiles(*sizes: int) -> Space:
    """For kernels that take an element at a time: 8 to 64 elements a thread."""
    return fixed(
        tuple(
            {"TILE": size, "num_warps": warps}
            for size, warps in product(sizes, WARPS)
            if 8 <= size // (warps * _THREADS_A_WARP) <= 64
        )
    )


SPACES: dict[str, Space] = {
    "quantize_rows": few_rows,
    "norm": few_rows,
    "embedding_layer_norm": few_rows,
    "bias_activation": tiles(1024, 2048, 4096, 8192),
    "gated_activation": tiles(1024, 2048, 4096, 8192),
    "quantized_bias_activation": whole_rows,
    "quantized_gated_activation": whole_rows,
    "rotary": fixed(grid(ROWS=(8, 16, 32, 64, 128), num_warps=(2, 4, 8))),
    "softmax": softmax,
    "segment_softmax": fixed(grid(TILE=(1024, 2048, 4096, 8192), num_warps=(2, 4, 8))),
}
