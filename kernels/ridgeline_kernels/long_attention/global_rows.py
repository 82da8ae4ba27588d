"""Attention of each sequence's first tokens to all of its tokens: few queries, many keys.

One program takes a span of the keys for a tile of these queries, so that one long sequence fills the device; then the
spans are combined. A sequence within one span is written at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import max_parts, part_number
from ridgeline_kernels.long_attention.combine import combine_spans
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "max_rows"])
def _global_rows_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    parts_ptr,
    lse_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    max_rows,
    heads,
    group,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    scale,
    SPAN: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), SPAN)
    if first < length:
        rows = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
        is_row = rows < tl.minimum(max_rows, length)
        dim_offs = tl.arange(0, BLOCK_D)
        is_dim = (dim_offs < HEAD_DIM)[None, :]
        first_token = start.to(tl.int64)
        q_tokens = first_token + rows
        q_ptrs = q_ptr + q_tokens[:, None] * q_token_stride + head.to(tl.int64) * q_head_stride + dim_offs[None, :]
        q = tl.load(q_ptrs, mask=is_row[:, None] & is_dim, other=0.0)
        kv_head = (head // group).to(tl.int64)
        k_ptr += first_token * k_token_stride + kv_head * k_head_stride
        v_ptr += first_token * v_token_stride + kv_head * v_head_stride

        factor = scale * LOG2_E
        row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
        row_sum = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for step in range(tl.cdiv(tl.minimum(length - first, SPAN), BLOCK_N)):
            key_offs = first + step * BLOCK_N + tl.arange(0, BLOCK_N)
            is_key = key_offs < length
            kv_mask = is_key[:, None] & is_dim
            key_rows = key_offs.to(tl.int64)[:, None]
            k = tl.load(k_ptr + key_rows * k_token_stride + dim_offs[None, :], mask=kv_mask, other=0.0)
            v = tl.load(v_ptr + key_rows * v_token_stride + dim_offs[None, :], mask=kv_mask, other=0.0)
            scores = tl.where(is_key[None, :], tl.dot(q, k.T, input_precision="ieee"), float("-inf"))
            weights, rescale, row_max, row_sum = online_softmax(scores, factor, row_max, row_sum, False)
            acc = acc * rescale[:, None]
            acc = tl.dot(weights.to(v.dtype), v, acc, input_precision="ieee")

        acc = acc / row_sum[:, None]
        mask = is_row[:, None] & is_dim
        if length <= SPAN:
            out_ptrs = out_ptr + (q_tokens[:, None] * heads + head) * HEAD_DIM + dim_offs[None, :]
            tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=mask)
        else:
            part_rows = (part_number(start, first, SPAN) * max_rows + rows) * heads + head
            tl.store(parts_ptr + part_rows[:, None] * HEAD_DIM + dim_offs[None, :], acc, mask=mask)
            tl.store(lse_ptr + part_rows, row_max + tl.log2(row_sum), mask=is_row)


def _parameters(head_dim: int, rows: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    padded = "" if head_dim == block_d else " padded"
    shape_class = f"head_dim<={block_d}{padded}" if dtype.itemsize <= 2 else "32-bit"
    parameters = dict(launch_parameters("global_rows", shape_class, device))
    most_rows = parameters.pop("MOST_ROWS", 64 if dtype.itemsize <= 2 else 32)
    block_m = min(most_rows, max(16, triton.next_power_of_2(rows)))
    return {**parameters, "HEAD_DIM": head_dim, "BLOCK_D": block_d, "BLOCK_M": block_m}


def attend_global_rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    rows: int,
    scale: float,
    out: torch.Tensor,
) -> None:
    """Write the full attention of the first `rows` tokens of each sequence to their rows of `out`.

    q, out: [tokens, heads, head_dim], out dense; k, v: [tokens, kv_heads, head_dim]
    """
    tokens, heads, head_dim = q.shape
    sequences = cu_seqlens.numel() - 1
    parameters = _parameters(head_dim, rows, q.dtype, q.device)
    span = parameters["SPAN"]
    parts = q.new_empty((max_parts(tokens, span), rows, heads, head_dim), dtype=torch.float32)
    lse = q.new_empty(parts.shape[:3], dtype=torch.float32)
    launch(
        _global_rows_kernel,
        (max_tiles(tokens, sequences, span), heads, triton.cdiv(rows, parameters["BLOCK_M"])),
        q,
        k,
        v,
        out,
        parts,
        lse,
        cu_seqlens,
        tokens,
        sequences,
        rows,
        heads,
        heads // k.shape[1],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        scale,
        **parameters,
    )
    if len(parts):
        combine_spans(parts, lse, cu_seqlens, out, span)
