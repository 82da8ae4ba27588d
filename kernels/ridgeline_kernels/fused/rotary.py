"""Rotary position embedding of queries and keys, both in one launch.

Of each head's first rotary_dim elements, pairs (a, b) turn by the angle of their token's position:

    a' = a · cos - b · sin        b' = b · cos + a · sin

Pair i is elements (i, i + rotary_dim / 2), as in Llama, GPT-NeoX and ModernBERT, or, interleaved, (2i, 2i + 1), as in
GPT-J and RoFormer. The elements after rotary_dim are copied. `rotary_tables` makes cos and sin.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_range, check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.positions import check_positions, search_steps
from ridgeline_kernels.language.positions import find_positions
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import positions_of
from ridgeline_kernels.parameters import launch_parameters

MAX_HEAD_DIM = 512


def rotary_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position_ids: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    interleaved: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`rotary` in plain PyTorch."""
    if cu_seqlens is not None:
        position_ids = positions_of(cu_seqlens, q.shape[0])
    # [tokens, 1, rotary_dim / 2]
    cos, sin = (table[position_ids].unsqueeze(1).to(compute_dtype(q)) for table in (cos, sin))
    return _rotate(q, cos, sin, interleaved), _rotate(k, cos, sin, interleaved)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    rotary_dim = 2 * cos.shape[-1]
    turned = x[..., :rotary_dim].to(cos.dtype)
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    pair = (a * cos - b * sin, b * cos + a * sin)
    turned = torch.stack(pair, dim=-1).flatten(-2) if interleaved else torch.cat(pair, dim=-1)
    return torch.cat([turned.to(x.dtype), x[..., rotary_dim:]], dim=-1)


@triton.jit
def _rotate_rows(
    x_ptr,
    out_ptr,
    cos_ptr,
    sin_ptr,
    position_ids_ptr,
    cu_seqlens_ptr,
    tile,
    tokens,
    heads,
    x_stride,
    x_head_stride,
    positions,
    cos_stride,
    sin_stride,
    num_seqs,
    steps,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    # A row is a head of a token; the heads of a token share its cos and sin in the cache.
    row = tile * ROWS + tl.arange(0, ROWS)
    is_row = row < tokens * heads
    token, head = row // heads, row % heads
    if position_ids_ptr is not None:
        position = tl.load(position_ids_ptr + token, mask=is_row, other=0).to(tl.int64)
    else:
        position = find_positions(token, cu_seqlens_ptr, num_seqs, steps).to(tl.int64)
    position = tl.minimum(tl.maximum(position, 0), positions - 1)

    half_offs = tl.arange(0, BLOCK_HALF)
    mask = is_row[:, None] & (half_offs[None, :] < HALF)
    cos = tl.load(cos_ptr + (position * cos_stride)[:, None] + half_offs[None, :], mask=mask, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + (position * sin_stride)[:, None] + half_offs[None, :], mask=mask, other=0.0).to(tl.float32)
    x_row_ptr = x_ptr + (token.to(tl.int64) * x_stride + head.to(tl.int64) * x_head_stride)[:, None]
    out_row_ptr = out_ptr + (row.to(tl.int64) * HEAD_DIM)[:, None]
    dtype = x_ptr.dtype.element_ty
    if INTERLEAVED:
        # Loaded and stored dense and taken apart in registers: every other element would be a quarter of the speed.
        pair_offs = tl.arange(0, 2 * BLOCK_HALF)
        pair_mask = is_row[:, None] & (pair_offs[None, :] < 2 * HALF)
        x = tl.load(x_row_ptr + pair_offs[None, :], mask=pair_mask, other=0.0).to(tl.float32)
        a, b = tl.split(tl.reshape(x, [ROWS, BLOCK_HALF, 2]))
        turned = tl.reshape(tl.join(a * cos - b * sin, b * cos + a * sin), [ROWS, 2 * BLOCK_HALF])
        tl.store(out_row_ptr + pair_offs[None, :], turned.to(dtype), mask=pair_mask)
    else:
        a = tl.load(x_row_ptr + half_offs[None, :], mask=mask, other=0.0).to(tl.float32)
        b = tl.load(x_row_ptr + HALF + half_offs[None, :], mask=mask, other=0.0).to(tl.float32)
        tl.store(out_row_ptr + half_offs[None, :], (a * cos - b * sin).to(dtype), mask=mask)
        tl.store(out_row_ptr + HALF + half_offs[None, :], (b * cos + a * sin).to(dtype), mask=mask)
    for first in range(2 * HALF, HEAD_DIM, BLOCK_REST):
        rest_offs = first + tl.arange(0, BLOCK_REST)
        rest_mask = is_row[:, None] & (rest_offs[None, :] < HEAD_DIM)
        rest = tl.load(x_row_ptr + rest_offs[None, :], mask=rest_mask, other=0.0)
        tl.store(out_row_ptr + rest_offs[None, :], rest, mask=rest_mask)


@triton.jit(do_not_specialize=["tokens", "q_programs", "positions", "num_seqs", "steps"])
def _rotary_kernel(
    q_ptr,
    k_ptr,
    q_out_ptr,
    k_out_ptr,
    cos_ptr,
    sin_ptr,
    position_ids_ptr,
    cu_seqlens_ptr,
    tokens,
    q_programs,
    q_heads,
    q_stride,
    q_head_stride,
    k_heads,
    k_stride,
    k_head_stride,
    positions,
    cos_stride,
    sin_stride,
    num_seqs,
    steps,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    tile = tl.program_id(0)
    if tile < q_programs:
        # fmt: off
        _rotate_rows(
            q_ptr, q_out_ptr, cos_ptr, sin_ptr, position_ids_ptr, cu_seqlens_ptr, tile, tokens, q_heads, q_stride,
            q_head_stride, positions, cos_stride, sin_stride, num_seqs, steps,
            HEAD_DIM, HALF, INTERLEAVED, ROWS, BLOCK_HALF, BLOCK_REST,
        )
    else:
        _rotate_rows(
            k_ptr,
            k_out_ptr,
            cos_ptr,
            sin_ptr,
            position_ids_ptr,
            cu_seqlens_ptr,
            tile - q_programs,
            tokens,
            k_heads,
            k_stride,
            k_head_stride,
            positions,
            cos_stride,
            sin_stride,
            num_seqs,
            steps,
            HEAD_DIM,
            HALF,
            INTERLEAVED,
            ROWS,
            BLOCK_HALF,
            BLOCK_REST,
        )
        # fmt: on


def _rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    position_ids: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    interleaved: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    q_out, k_out = _shapes(q, k)
    tokens, q_heads, head_dim = q.shape
    k_heads = k.shape[1]
    half = cos.shape[1]
    block = triton.next_power_of_2(half)
    parameters = launch_parameters("rotary", f"rotary_dim<={2 * block}", q.device)
    q_programs = triton.cdiv(tokens * q_heads, parameters["ROWS"])
    k_programs = triton.cdiv(tokens * k_heads, parameters["ROWS"])
    launch(
        _rotary_kernel,
        (q_programs + k_programs,),
        *(q, k, q_out, k_out, cos, sin, position_ids, cu_seqlens, tokens, q_programs),
        *(q_heads, q.stride(0), q.stride(1), k_heads, k.stride(0), k.stride(1)),
        *(cos.shape[0], cos.stride(0), sin.stride(0), *search_steps(cu_seqlens)),
        HEAD_DIM=head_dim,
        HALF=half,
        INTERLEAVED=interleaved,
        BLOCK_HALF=block,
        BLOCK_REST=min(triton.next_power_of_2(max(head_dim - 2 * half, 1)), 64),
        **parameters,
    )
    return q_out, k_out


def _shapes(q: torch.Tensor, k: torch.Tensor, *args: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


_op = register("rotary", reference=rotary_reference, kernel=_rotary, shapes=_shapes)


def rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    position_ids: torch.Tensor | None = None,
    cu_seqlens: torch.Tensor | None = None,
    interleaved: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate packed queries and keys to their positions, in fp32 with one rounding.

    q, k:         [tokens, heads, head_dim], each with its own number of heads, fp16/bf16/fp32; tokens and heads may be
                  strided, as slices of a fused projection are; head_dim at most 512
    cos, sin:     [positions, rotary_dim / 2], any floating dtype, best fp32; rotary_dim at most head_dim
    position_ids: [tokens], int32 or int64, or instead
    cu_seqlens:   int32 [sequences + 1]: positions count from 0 in each sequence
    interleaved:  pairs are neighbours instead of halves
    returns q and k rotated: new dense tensors, shapes and dtypes of q and k

    A position that the tables lack is an error on the CPU; on a GPU, where looking would mean waiting, the nearest one.

    Raises ArgumentError.
    """
    check_tensor("q", q, ("tokens", "heads", "head_dim"))
    tokens, _, head_dim = q.shape
    check_range("head_dim of q", head_dim, 2, MAX_HEAD_DIM)
    check_tensor("k", k, (tokens, "heads", head_dim), like=q)
    check_same_dtype("k", k, "q", q)
    check_tensor("cos", cos, ("positions", "rotary_dim / 2"), like=q)
    check_tensor("sin", sin, tuple(cos.shape), like=q)
    positions, half = cos.shape
    check_range("the number of rows of cos", positions, 1)
    if not 1 <= half <= head_dim // 2:
        raise ArgumentError(f"cos has {half} columns, one for each pair; heads of {head_dim} have 1 to {head_dim // 2}")
    check_positions(position_ids, cu_seqlens, 0, "cos", positions, tokens, q)
    q_out, k_out = _op(q, k, cos, sin, position_ids, cu_seqlens, interleaved)
    return q_out, k_out
