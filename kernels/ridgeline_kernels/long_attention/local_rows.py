"""Attention of tiles of queries to the windows around them and to the global keys.

A tile walks three stretches of keys: the global ones, the window's ends, whose masks differ from query to query, and
its middle, which every query of the tile sees. The window begins after the global keys: none counts twice.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile


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
def local_global_kernel(
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
