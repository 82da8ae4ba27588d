"""Attention to a window around each token and to a few global tokens (Longformer, Beltagy et al., 2020; BigBird-ITC).

    query i attends key j if |i - j| ≤ window, or j < global_tokens, or i < global_tokens

A tile of queries walks three stretches of keys: the global ones, the window's ends, whose masks differ from query to
query, and its middle, which every query of the tile sees. The window begins after the global keys: none counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_cu_seqlens, check_range
from ridgeline_kernels.attention.arguments import check_qkv
from ridgeline_kernels.attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.global_rows import attend_global_rows
from ridgeline_kernels.long_attention.masked import masked_attention
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters

# Sums of two of these still fit an int32.
_FARTHEST = 2**29


def local_global_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    """`local_global_attention` in plain PyTorch, as attention under a mask."""

    def allowed(span: slice, positions: torch.Tensor) -> torch.Tensor:
        keys = torch.arange(span.stop - span.start, device=q.device)
        is_local = (positions[:, None] - keys[None, :]).abs() <= window
        mask = is_local | (keys < global_tokens)[None, :] | (positions < global_tokens)[:, None]
        return mask[None]

    return masked_attention(q, k, v, cu_seqlens, scale, allowed)


@triton.jit
def _attend_keys(
    q,
    k_ptr,
    v_ptr,
    k_token_stride,
    v_token_stride,
    begin,
    end,
    reach,
    q_pos,
    dim_offs,
    factor,
    acc,
    row_max,
    row_sum,
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Attend the BLOCK_N keys from `begin`; MASKED: those before `end` and no farther than `reach`."""
    key_offs = begin + tl.arange(0, BLOCK_N)
    key_rows = key_offs.to(tl.int64)[:, None]
    k_ptrs = k_ptr + key_rows * k_token_stride + dim_offs[None, :]
    v_ptrs = v_ptr + key_rows * v_token_stride + dim_offs[None, :]
    if MASKED:
        mask = (key_offs < end)[:, None] & (dim_offs < HEAD_DIM)[None, :]
        k = tl.load(k_ptrs, mask=mask, other=0.0)
        v = tl.load(v_ptrs, mask=mask, other=0.0)
    elif BLOCK_D != HEAD_DIM:
        k = tl.load(k_ptrs, mask=(dim_offs < HEAD_DIM)[None, :], other=0.0)
        v = tl.load(v_ptrs, mask=(dim_offs < HEAD_DIM)[None, :], other=0.0)
    else:
        k = tl.load(k_ptrs)
        v = tl.load(v_ptrs)
    scores = tl.dot(q, k.T, input_precision="ieee")
    if MASKED:
        is_seen = (key_offs < end)[None, :] & (tl.abs(q_pos[:, None] - key_offs[None, :]) <= reach)
        scores = tl.where(is_seen, scores, float("-inf"))
    weights, rescale, row_max, row_sum = online_softmax(scores, factor, row_max, row_sum, MASKED)
    acc = acc * rescale[:, None]
    acc = tl.dot(weights.to(v.dtype), v, acc, input_precision="ieee")
    return acc, row_max, row_sum


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "window", "global_tokens"])
def _local_global_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    window,
    global_tokens,
    heads,
    group,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    scale,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), BLOCK_M)
    last = tl.minimum(first + BLOCK_M, length) - 1
    # Global queries are another kernel's.
    if (first < length) & (last >= global_tokens):
        q_pos = first + tl.arange(0, BLOCK_M)
        is_query = q_pos < length
        dim_offs = tl.arange(0, BLOCK_D)
        is_dim = (dim_offs < HEAD_DIM)[None, :]
        q_tokens = (start + q_pos).to(tl.int64)
        q_ptrs = q_ptr + q_tokens[:, None] * q_token_stride + head.to(tl.int64) * q_head_stride + dim_offs[None, :]
        q = tl.load(q_ptrs, mask=is_query[:, None] & is_dim, other=0.0)
        kv_head = (head // group).to(tl.int64)
        k_ptr += start.to(tl.int64) * k_token_stride + kv_head * k_head_stride
        v_ptr += start.to(tl.int64) * v_token_stride + kv_head * v_head_stride

        # Window: [window_begin, window_end), its middle [middle, middle + middle_steps * BLOCK_N).
        window_begin = tl.maximum(first - window, global_tokens)
        window_end = tl.minimum(last + window + 1, length)
        middle = tl.minimum(tl.maximum(last - window, window_begin), window_end)
        middle_steps = tl.maximum(tl.minimum(first + window + 1, length) - middle, 0) // BLOCK_N
        right = middle + middle_steps * BLOCK_N
        global_steps = tl.cdiv(global_tokens, BLOCK_N)
        left_steps = tl.cdiv(middle - window_begin, BLOCK_N)
        edge_steps = global_steps + left_steps + tl.cdiv(window_end - right, BLOCK_N)

        factor = scale * LOG2_E
        row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
        row_sum = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for step in range(edge_steps):
            is_global = step < global_steps
            is_left = step < global_steps + left_steps
            left_begin = window_begin + (step - global_steps) * BLOCK_N
            right_begin = right + (step - global_steps - left_steps) * BLOCK_N
            begin = tl.where(is_global, step * BLOCK_N, tl.where(is_left, left_begin, right_begin))
            end = tl.where(is_global, global_tokens, tl.where(is_left, middle, window_end))
            reach = tl.where(is_global, length, window)
            acc, row_max, row_sum = _attend_keys(
                q, k_ptr, v_ptr, k_token_stride, v_token_stride, begin, end, reach, q_pos, dim_offs,
                factor, acc, row_max, row_sum, True, HEAD_DIM, BLOCK_D, BLOCK_N,
            )  # fmt: skip
        for step in range(middle_steps):
            begin = middle + step * BLOCK_N
            acc, row_max, row_sum = _attend_keys(
                q, k_ptr, v_ptr, k_token_stride, v_token_stride, begin, right, window, q_pos, dim_offs,
                factor, acc, row_max, row_sum, False, HEAD_DIM, BLOCK_D, BLOCK_N,
            )  # fmt: skip

        out_ptrs = out_ptr + (q_tokens[:, None] * heads + head) * HEAD_DIM + dim_offs[None, :]
        acc = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
        is_local = is_query & (q_pos >= global_tokens)
        tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=is_local[:, None] & is_dim)


def _parameters(head_dim: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    shape_class = f"head_dim<={block_d}" if dtype.itemsize <= 2 else "32-bit"
    parameters = launch_parameters("local_global_attention", shape_class, device)
    return {**parameters, "HEAD_DIM": head_dim, "BLOCK_D": block_d}


def _local_global(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    out = q.new_empty(q.shape)
    tokens, heads, head_dim = q.shape
    sequences = cu_seqlens.numel() - 1
    if not tokens:
        return out
    parameters = _parameters(head_dim, q.dtype, q.device)
    launch(
        _local_global_kernel,
        (max_tiles(tokens, sequences, parameters["BLOCK_M"]), heads),
        q,
        k,
        v,
        out,
        cu_seqlens,
        tokens,
        sequences,
        min(window, _FARTHEST),
        min(global_tokens, tokens),
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
    if global_tokens:
        attend_global_rows(q, k, v, cu_seqlens, min(global_tokens, tokens), scale, out)
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register("local_global_attention", reference=local_global_reference, kernel=_local_global, shapes=_shapes)


def local_global_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    window: int,
    global_tokens: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """Sliding-window attention in which the first tokens of each sequence attend all and are attended by all.

    q:              [tokens, heads, head_dim], fp16/bf16/fp32; k and v: [tokens, kv_heads, head_dim]
    cu_seqlens:     int32 [sequences + 1]
    window:         how far a token sees to each side: 2 · window + 1 keys with its own
    global_tokens:  tokens at the start of each sequence, as [CLS] or a question, that everything sees and that see
                    everything; all of a sequence that is not longer
    scale:          of the scores; 1 / √head_dim if None
    returns         [tokens, heads, head_dim], dtype of q: one softmax over all keys that a query sees

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    tokens, _, head_dim = q.shape
    if k.shape[0] != tokens:
        raise ArgumentError(f"k has {k.shape[0]} tokens and q {tokens}; queries and keys are of the same tokens")
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, q)
    check_range("window", window, 0)
    check_range("global_tokens", global_tokens, 0)
    scale = head_dim**-0.5 if scale is None else scale
    if not scale > 0:
        raise ArgumentError(f"scale is {scale}; it must be above 0")
    result: torch.Tensor = _op(q, k, v, cu_seqlens, window, global_tokens, scale)
    return result


def local_global_flops(
    lengths: Sequence[int], heads: int, head_dim: int, *, window: int, global_tokens: int = 0
) -> int:
    """Floating-point operations of `local_global_attention`: 4 · head_dim for each query and key that it sees."""
    pairs = 0
    for length in lengths:
        first = min(global_tokens, length)
        local = length - first
        reach = min(window, max(local - 1, 0))
        pairs += first * length + first * local + local * (2 * reach + 1) - reach * (reach + 1)
    return 4 * head_dim * heads * pairs
