"""One vector a sequence out of its tokens', with L2 normalization.

    mean           sum of x[t] / n                                    first   x[0]
    mean_sqrt_len  sum of x[t] / sqrt(n)                              last    x[n - 1]
    weighted_mean  sum of (t + 1) x[t] / sum of (t + 1)               max     largest x[t] in each column
                   (SGPT: Muennighoff 2022, arXiv 2202.08904)

Sums are taken in two steps, so that one long sequence fills the chip as well as many short ones: those of tiles of
BLOCK_T tokens, each by a program, then those of a sequence's tiles. Their order depends on the sequence alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import FLOATS, check_choice, check_cu_seqlens, check_range, check_tensor
from ridgeline_kernels.language.tiles import column_block, find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles, spans
from ridgeline_kernels.parameters import launch_parameters

WIDEST_NORMALIZED = 32768
"""Columns of a vector that a program holds in registers."""


def _weighted_mean(states: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(states) + 1, dtype=states.dtype, device=states.device)
    return (states * weights[:, None]).sum(dim=0) / weights.sum()


METHODS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda states: states.mean(dim=0),
    "first": lambda states: states[0],
    "last": lambda states: states[-1],
    "max": lambda states: states.amax(dim=0),
    "weighted_mean": _weighted_mean,
    "mean_sqrt_len": lambda states: states.sum(dim=0) / len(states) ** 0.5,
}
"""The methods of `pool`, each as a function of one sequence's states, [tokens, dim]."""


def pool_reference(
    hidden: torch.Tensor, cu_seqlens: torch.Tensor, method: str, normalize: bool, out_dtype: torch.dtype
) -> torch.Tensor:
    """`pool` in plain PyTorch."""
    compute = compute_dtype(hidden)
    pooled = torch.zeros(cu_seqlens.numel() - 1, hidden.shape[1], dtype=compute, device=hidden.device)
    for sequence, span in enumerate(spans(cu_seqlens)):
        if span.stop > span.start:
            pooled[sequence] = METHODS[method](hidden[span].to(compute))
    return (torch.nn.functional.normalize(pooled, dim=1) if normalize else pooled).to(out_dtype)


@triton.jit
def _reduce_rows(
    rows_ptr,
    first,
    count,
    stride,
    col_offs,
    dim,
    position,
    METHOD: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The sum, or the largest, of `count` rows from row `first` on: fp32 [BLOCK_D].

    STAGES - 1 loads of ROWS rows are under way at a time. WEIGHTED: row i counts position + i + 1 times
    """
    empty: tl.constexpr = float("-inf") if METHOD == "max" else 0.0
    acc = tl.full([ROWS, BLOCK_D], empty, tl.float32)
    for some in tl.range(0, count, ROWS, num_stages=STAGES):
        row = some + tl.arange(0, ROWS)
        mask = (row[:, None] < count) & (col_offs[None, :] < dim)
        offs = (first + row).to(tl.int64)[:, None] * stride + col_offs[None, :]
        x = tl.load(rows_ptr + offs, mask=mask, other=empty).to(tl.float32)
        if METHOD == "max":
            acc = tl.maximum(acc, x, propagate_nan=tl.PropagateNan.ALL)
        elif WEIGHTED:
            acc += x * (position + row + 1).to(tl.float32)[:, None]
        else:
            acc += x
    if METHOD == "max":
        # tl.max drops NaN.
        return tl.max(acc, axis=0) + tl.sum(tl.where(acc != acc, acc, 0.0), axis=0)
    else:
        return tl.sum(acc, axis=0)


@triton.jit(do_not_specialize=["num_seqs", "num_tokens"])
def _pool_tiles_kernel(
    hidden_ptr,
    cu_seqlens_ptr,
    partial_ptr,
    num_seqs,
    num_tokens,
    dim,
    hidden_stride,
    METHOD: tl.constexpr,
    BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
):
    col_blocks = tl.cdiv(dim, BLOCK_D)
    tile = tl.program_id(0) // col_blocks
    col_offs = (tl.program_id(0) % col_blocks) * BLOCK_D + tl.arange(0, BLOCK_D)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tile, BLOCK_T)
    if first >= length:
        return
    count = tl.minimum(length - first, BLOCK_T)
    is_weighted: tl.constexpr = METHOD == "weighted_mean"
    pooled = _reduce_rows(
        hidden_ptr,
        start + first,
        count,
        hidden_stride,
        col_offs,
        dim,
        first,
        METHOD,
        is_weighted,
        ROWS,
        BLOCK_D,
        STAGES,
    )
    tl.store(partial_ptr + tile.to(tl.int64) * dim + col_offs, pooled, mask=col_offs < dim)


@triton.jit(do_not_specialize=["num_tokens"])
def _finish_pooling_kernel(
    rows_ptr,
    cu_seqlens_ptr,
    out_ptr,
    num_tokens,
    dim,
    rows_stride,
    METHOD: tl.constexpr,
    NORMALIZE: tl.constexpr,
    BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
):
    col_blocks = tl.cdiv(dim, BLOCK_D)
    seq = tl.program_id(0) // col_blocks
    col_offs = (tl.program_id(0) % col_blocks) * BLOCK_D + tl.arange(0, BLOCK_D)
    start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    length = tl.minimum(tl.load(cu_seqlens_ptr + seq + 1), num_tokens) - start
    # The rows are the sums of tiles, or the tokens themselves.
    if METHOD == "first":
        first, count = start, tl.minimum(length, 1)
    elif METHOD == "last":
        first, count = start + length - 1, tl.minimum(length, 1)
    else:
        first, count = start // BLOCK_T + seq, tl.cdiv(length, BLOCK_T)
    pooled = _reduce_rows(rows_ptr, first, count, rows_stride, col_offs, dim, 0, METHOD, False, ROWS, BLOCK_D, STAGES)
    tokens = tl.maximum(length, 1).to(tl.float32)
    if METHOD == "mean":
        pooled /= tokens
    elif METHOD == "mean_sqrt_len":
        pooled /= tl.sqrt(tokens)
    elif METHOD == "weighted_mean":
        pooled /= 0.5 * tokens * (tokens + 1.0)
    elif METHOD == "max":
        pooled = tl.where(length > 0, pooled, 0.0)
    if NORMALIZE:
        in_row = tl.where(col_offs < dim, pooled, 0.0)
        pooled /= tl.maximum(tl.sqrt(tl.sum(in_row * in_row, axis=0)), 1e-12)
    out = pooled.to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + seq.to(tl.int64) * dim + col_offs, out, mask=col_offs < dim)


def _blocks(dim: int, itemsize: int, parameters: Mapping[str, Any], *, whole_rows: bool) -> dict[str, int]:
    """Blocks of rows of about TILE_BYTES; rows of more than twice as many are not loaded ahead."""
    blocks = dict(parameters)
    tile, widest = blocks.pop("TILE_BYTES") // itemsize, blocks.pop("BLOCK_D")
    block = triton.next_power_of_2(max(dim, 1)) if whole_rows else column_block(dim, widest)
    stages = blocks.pop("STAGES") if block <= 2 * tile else 1
    return {**blocks, "BLOCK_D": block, "ROWS": max(1, tile // block), "STAGES": stages}


def _sums_of_tiles(hidden: torch.Tensor, cu_seqlens: torch.Tensor, method: str) -> tuple[torch.Tensor, int]:
    """The pooled rows of all tiles, and how many tokens a tile has."""
    tokens, dim = hidden.shape
    sequences = cu_seqlens.numel() - 1
    parameters = launch_parameters("pool", "tiles", hidden.device)
    blocks = _blocks(dim, hidden.element_size(), parameters, whole_rows=False)
    tiles = max_tiles(tokens, sequences, blocks["BLOCK_T"])
    partial = torch.empty(tiles, dim, dtype=torch.float32, device=hidden.device)
    grid = (tiles * triton.cdiv(dim, blocks["BLOCK_D"]),)
    args = (hidden, cu_seqlens, partial, sequences, tokens, dim, hidden.stride(0))
    launch(_pool_tiles_kernel, grid, *args, METHOD=method, **blocks)
    return partial, blocks["BLOCK_T"]


def _pool(
    hidden: torch.Tensor, cu_seqlens: torch.Tensor, method: str, normalize: bool, out_dtype: torch.dtype
) -> torch.Tensor:
    tokens, dim = hidden.shape
    sequences = cu_seqlens.numel() - 1
    out = torch.empty(sequences, dim, dtype=out_dtype, device=hidden.device)
    is_one_token = method in ("first", "last")
    rows, block_t = (hidden, 1) if is_one_token else _sums_of_tiles(hidden, cu_seqlens, method)
    parameters = launch_parameters("pool", f"finish dim<={triton.next_power_of_2(dim)}", hidden.device)
    whole_rows = normalize or (is_one_token and dim <= WIDEST_NORMALIZED)
    blocks = _blocks(dim, rows.element_size(), parameters, whole_rows=whole_rows)
    if is_one_token:
        blocks |= {"ROWS": 1, "STAGES": 1}
    grid = (sequences * triton.cdiv(dim, blocks["BLOCK_D"]),)
    args = (rows, cu_seqlens, out, tokens, dim, rows.stride(0))
    launch(_finish_pooling_kernel, grid, *args, METHOD=method, NORMALIZE=normalize, BLOCK_T=block_t, **blocks)
    return out


def _shapes(
    hidden: torch.Tensor, cu_seqlens: torch.Tensor, method: str, normalize: bool, out_dtype: torch.dtype
) -> torch.Tensor:
    return hidden.new_empty(cu_seqlens.shape[0] - 1, hidden.shape[1], dtype=out_dtype)


_op = register("pool", reference=pool_reference, kernel=_pool, shapes=_shapes)


def pool(
    hidden: torch.Tensor,
    cu_seqlens: torch.Tensor,
    method: str = "mean",
    *,
    normalize: bool = False,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """One vector a sequence, with sums in fp32; an empty sequence's is zero.

    hidden:     [tokens, dim], fp16/bf16/fp32; tokens may be strided. dim at most 32,768 with `normalize`
    cu_seqlens: [sequences + 1], int32: 0, …, tokens
    method:     "mean", "first", "last", "max", "weighted_mean" or "mean_sqrt_len", as above
    normalize:  divide by the L2 norm, or by 1e-12 where it is less, as torch.nn.functional.normalize does
    out_dtype:  that of the result; None is that of hidden
    returns [sequences, dim]

    Raises ArgumentError.
    """
    check_tensor("hidden", hidden, ("tokens", "dim"))
    check_cu_seqlens("cu_seqlens", cu_seqlens, hidden.shape[0], like=hidden)
    check_choice("method", method, tuple(METHODS))
    if normalize:
        check_range("the last dimension of hidden, which is normalized,", hidden.shape[1], 1, WIDEST_NORMALIZED)
    check_choice("out_dtype", out_dtype, (None, *FLOATS))
    pooled: torch.Tensor = _op(hidden, cu_seqlens, method, normalize, out_dtype or hidden.dtype)
    return pooled
