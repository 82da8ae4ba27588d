"""Candidates of attention, exact and approximate: the tile of queries, the block of keys, warps and stages."""

from __future__ import annotations

from ridgeline_kernels.tune.grids import Parameters, grid, size_of

Tile = tuple[int, int, int]
"""BLOCK_M, BLOCK_N, num_warps."""


def tiled(*shapes: Tile, **choices: tuple[int | bool, ...]) -> tuple[Parameters, ...]:
    """Every shape of a tile with every combination of the other choices."""
    return tuple(
        {"BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": warps, **other}
        for block_m, block_n, warps in shapes
        for other in grid(**choices)
    )


def attention(shape_class: str) -> tuple[Parameters, ...]:
    """By how long sequences are, and by what is added to the scores."""
    size = size_of(shape_class)
    if "fp32" in shape_class:
        return tiled((16, 16, 4), (32, 16, 4), (32, 32, 4), (32, 32, 8), num_stages=(1, 2))
    if "short" in shape_class:
        return tiled((16, 16, 1), (16, 32, 1), (16, 32, 2), (32, 32, 1), (32, 32, 2), (32, 32, 4), num_stages=(1, 2))
    if "medium" in shape_class:
        return tiled(
            (32, 64, 4), (64, 32, 4), (64, 64, 4), (64, 128, 4), (128, 64, 8), (128, 128, 8), num_stages=(2, 3)
        )
    if "long" in shape_class:
        if size > 128:
            shapes: tuple[Tile, ...] = ((128, 32, 8), (128, 64, 8), (64, 32, 4), (64, 32, 8), (64, 64, 8))
        else:
            shapes = ((128, 64, 4), (128, 64, 8), (128, 128, 8), (64, 64, 4), (64, 128, 4))
        return tiled(*shapes, num_stages=(2, 3), DESCRIPTORS=(True, False))
    return tiled(
        (64, 32, 4), (64, 64, 4), (64, 64, 8), (128, 32, 8), (128, 64, 8), num_stages=(2, 3), EDGE_STAGES=(1, 2)
    )


def disentangled(shape_class: str) -> tuple[Parameters, ...]:
    """DeBERTa's: three products a block of keys."""
    return tiled((32, 32, 2), (32, 32, 4), (64, 32, 4), (64, 64, 4), (64, 64, 8), (128, 32, 8), num_stages=(1, 2))


def local_global(shape_class: str) -> tuple[Parameters, ...]:
    """A window beside every tile of queries."""
    return tiled((64, 32, 4), (64, 64, 4), (128, 32, 8), (128, 64, 8), (128, 128, 8), (128, 64, 4), num_stages=(2, 3))


def key_blocks(*sizes: int, stages: tuple[int, ...] = (1, 2, 3)) -> tuple[Parameters, ...]:
    """Where the tile of queries is given by the op's own block or chunk."""
    return grid(BLOCK_N=sizes, num_warps=(4, 8), num_stages=stages)


def landmark_values(shape_class: str) -> tuple[Parameters, ...]:
    """All landmarks at once in shared memory, or rows of them with the matrices in L2."""
    size = size_of(shape_class)
    rows = tuple(sorted({max(16, size // 4), max(16, size // 2), size}))
    return grid(
        ROWS=rows, BLOCK_K=tuple(block for block in (16, 32) if block <= size), num_warps=(4, 8), num_stages=(2,)
    )


def few_queries(shape_class: str) -> tuple[Parameters, ...]:
    """Landmarks over all keys, in parts of CHUNK keys that are joined afterwards."""
    if "fp32" in shape_class:
        return tiled((16, 16, 4), (16, 16, 8), (32, 16, 8), num_stages=(2,), CHUNK=(512, 1024))
    return tiled((64, 32, 4), (64, 64, 4), (64, 128, 4), (64, 64, 8), num_stages=(2, 3), CHUNK=(512, 1024))


def few_keys(shape_class: str) -> tuple[Parameters, ...]:
    """All queries over a few keys."""
    if "fp32" in shape_class:
        return tiled((16, 16, 4), (16, 16, 8), (32, 16, 8), num_stages=(1, 2))
    return tiled((64, 32, 4), (64, 64, 4), (128, 32, 8), (128, 64, 8), (128, 64, 4), (128, 128, 8), num_stages=(2, 3))


def linformer_projection(shape_class: str) -> tuple[Parameters, ...]:
    """Products of a projection with keys and values, in parts of CHUNK tokens that are added afterwards."""
    if "fp32" in shape_class:
        return grid(BLOCK_R=(16, 32), BLOCK_T=(16,), CHUNK=(512, 1024), num_warps=(4, 8))
    return grid(BLOCK_R=(64, 128), BLOCK_T=(32, 64), CHUNK=(512, 1024), num_warps=(4, 8), num_stages=(2, 3))
