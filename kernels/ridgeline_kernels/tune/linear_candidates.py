"""Candidates of the matrix products."""

from __future__ import annotations

from typing import Any

from ridgeline_kernels.tune.grids import Parameters, Space, grid, size_of


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
            return (*_few_tokens(tokens, wide), {"backend": "torch"})
        if tokens <= 512:
            return (*_some_tokens(narrow, (1,) if tokens > 128 else (1, 4)), {"backend": "torch"})
        return (*_many_tokens(narrow, accumulators), {"backend": "torch"})

    return space


def _few_tokens(tokens: int, wide: int) -> tuple[Parameters, ...]:
    return grid(
        BLOCK_M=(tokens,),
        BLOCK_N=(64, 128),
        BLOCK_K=(wide,),
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
        PROGRAMS_PER_SM=(1, 2) if len(splits) == 1 else (2,),
        num_warps=(4,),
        num_stages=(4,),
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
