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
    return whole_rows(shape_class) if size_of(shape_class) >= 128 else grid(ROWS=(8, 16, 32), num_warps=(1, 2, 4))


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


def linear(element_bytes: int) -> Space:
    """For matrix products, by the number of tokens; blocks of K are 128 bytes wide, or 256 where there are few tokens.

    Few tokens: the weight is read once, so what counts is how many programs read it and how far ahead. Many: large
    tiles, and how loads, products and stores overlap.
    """
    narrow, wide = 128 // element_bytes, 256 // element_bytes
    accumulators = (1,) if element_bytes > 1 else (1, 2)

    def space(shape_class: str) -> tuple[Parameters, ...]:
        if not shape_class.startswith("m"):
            return (*grid(BLOCK_M=(32, 64), BLOCK_N=(32, 64), num_warps=(4,)), {"backend": "torch"})
        tokens = size_of(shape_class) + shape_class.startswith("m>")
        if tokens <= 32:
            return (*_few_tokens(tokens, narrow, wide), {"backend": "torch"})
        if tokens <= 512:
            return (*_some_tokens(narrow, (1,) if tokens > 128 else (1, 4)), {"backend": "torch"})
        return (*_many_tokens(narrow, accumulators), {"backend": "torch"})

    return space


def _few_tokens(tokens: int, narrow: int, wide: int) -> tuple[Parameters, ...]:
    return grid(
        BLOCK_M=(tokens,),
        BLOCK_N=(64, 128),
        BLOCK_K=(narrow, wide),
        SPLIT_K=(1, 4),
        SWAP=(True,),
        TMA=(True,),
        PROGRAMS_PER_SM=(2,),
        num_warps=(4,),
        num_stages=(4, 6),
        backend=("triton",),
    )


def _some_tokens(narrow: int, splits: tuple[int, ...]) -> tuple[Parameters, ...]:
    return grid(
        BLOCK_M=(64, 128),
        BLOCK_N=(64, 128),
        BLOCK_K=(narrow,),
        SPLIT_K=splits,
        SUBTILES=(1,),
        SWAP=(False,),
        TMA=(True,),
        PROGRAMS_PER_SM=(1, 2),
        num_warps=(4,),
        num_stages=(4,) if len(splits) > 1 else (3, 4),
        backend=("triton",),
    )


def _many_tokens(narrow: int, accumulators: tuple[int, ...]) -> tuple[Parameters, ...]:
    common: dict[str, tuple[Any, ...]] = {
        "BLOCK_K": (narrow,),
        "SWAP": (False,),
        "SPLIT_K": (1,),
        "backend": ("triton",),
    }
    large = {**common, "TMA": (True,), "FLATTEN": (True, False), "PROGRAMS_PER_SM": (1,), "num_warps": (8,)}
    small = {**common, "TMA": (True,), "FLATTEN": (True,), "SUBTILES": (1,), "num_stages": (4,)}
    plain = {**common, "TMA": (False,), "FLATTEN": (False,), "PROGRAMS_PER_SM": (0,), "num_warps": (8,)}
    return (
        *grid(BLOCK_M=(128,), BLOCK_N=(256,), num_stages=(3, 4), SUBTILES=(2,), ACCUMULATORS=accumulators, **large),
        *grid(BLOCK_M=(128,), BLOCK_N=(256,), num_stages=(3,), SUBTILES=(1,), ACCUMULATORS=(1,), **large),
        *grid(BLOCK_M=(256,), BLOCK_N=(128,), num_stages=(3,), SUBTILES=(2,), ACCUMULATORS=(1,), **large),
        *grid(BLOCK_M=(128,), BLOCK_N=(128,), num_warps=(4, 8), PROGRAMS_PER_SM=(1, 2), **small),
        *grid(BLOCK_M=(128,), BLOCK_N=(128, 256), num_stages=(3,), SUBTILES=(1,), ACCUMULATORS=(1,), **plain),
    )


SPACES: dict[str, Space] = {
    "quantize_rows": few_rows,
    "norm": few_rows,
    "embedding_layer_norm": few_rows,
    "bias_activation": tiles(1024, 2048, 4096, 8192),
    "gated_activation": tiles(1024, 2048, 4096, 8192),
    "quantized_bias_activation": whole_rows,
    "quantized_gated_activation": whole_rows,
    "linear": linear(2),
    "int8_linear": linear(1),
    "fp8_linear": linear(1),
    "linear_finish": fixed(grid(ROWS=(1, 2, 4, 8), BLOCK_N=(256, 512, 1024), num_warps=(2, 4))),
    "rotary": fixed(grid(ROWS=(8, 16, 32, 64, 128), num_warps=(2, 4, 8))),
    "softmax": softmax,
    "segment_softmax": fixed(grid(TILE=(1024, 2048, 4096, 8192), num_warps=(2, 4, 8))),
}
