"""Attention of packed queries to a few keys per sequence, and a depthwise convolution beside it.

    out[t] = Σⱼ softmaxⱼ(scale · q[t]·keys[b, j]) values[b, j] + Σᵢ filter[h, i] v[t + i - width // 2]

over the first min(length, landmarks) keys of t's sequence b, and over the tokens of the sequence. The convolution is a
product too: of the band matrix of the filter's taps, made on the fly, and the tokens around the tile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.rows import accumulate, dot_rows, load_rows, split_head_dim, store_rows
from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters


@triton.jit(do_not_specialize=["num_seqs", "num_tokens", "scale"])
def few_keys_kernel(
    q_ptr,
    keys_ptr,
    values_ptr,
    v_ptr,
    filter_ptr,
    out_ptr,
    cu_seqlens_ptr,
    num_seqs,
    num_tokens,
    q_stride,
    q_head_stride,
    v_stride,
    v_head_stride,
    filter_stride,
    scale,
    LANDMARKS: tl.constexpr,
    WIDTH: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    seq, start, length, row_first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0) // HEADS, BLOCK_M)
    rows_left = tl.maximum(length - row_first, 0)
    # A program without rows does nothing.
    keys_here = tl.where(rows_left > 0, tl.minimum(length, LANDMARKS), 0)

    row_offs = tl.arange(0, BLOCK_M)
    key_offs = tl.arange(0, BLOCK_N)
    token = (start + row_first).to(tl.int64)
    stride = HEADS * HEAD_DIM
    head_first = seq.to(tl.int64) * LANDMARKS * stride + head * HEAD_DIM
    q, q_tail = load_rows(
        q_ptr + token * q_stride + head * q_head_stride, q_stride, row_offs, rows_left, HEAD_DIM, BLOCK_D, TAIL, False
    )
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    acc_tail = 0
    if TAIL > 0:
        acc_tail = tl.zeros([BLOCK_M, TAIL], tl.float32)
    for first in range(0, keys_here, BLOCK_N):
        block_first = head_first + first * stride
        left = keys_here - first
        keys, keys_tail = load_rows(keys_ptr + block_first, stride, key_offs, left, HEAD_DIM, BLOCK_D, TAIL, False)
        scores = dot_rows(q, q_tail, keys, keys_tail, TAIL, PRECISION)
        scores = tl.where((key_offs < left)[None, :], scores, float("-inf"))
        weights, rescale, row_max, row_sum = online_softmax(scores, scale * LOG2_E, row_max, row_sum, False)
        values, values_tail = load_rows(
            values_ptr + block_first, stride, key_offs, left, HEAD_DIM, BLOCK_D, TAIL, False
        )
        acc, acc_tail = accumulate(acc, acc_tail, rescale, weights, values, values_tail, TAIL, PRECISION)
    inverse = 1.0 / tl.where(row_sum > 0, row_sum, 1.0)

    if WIDTH > 0:
        acc = acc * inverse[:, None]
        if TAIL > 0:
            acc_tail = acc_tail * inverse[:, None]
        inverse = tl.full([BLOCK_M], 1.0, tl.float32)
        around = tl.maximum(row_first - WIDTH // 2, 0)
        end = tl.where(rows_left > 0, tl.minimum(row_first + BLOCK_M + WIDTH // 2, length), 0)
        for first in range(around, end, BLOCK_N):
            tap = (first - row_first + WIDTH // 2) + key_offs[None, :] - row_offs[:, None]
            is_tap = (tap >= 0) & (tap < WIDTH)
            taps = tl.load(filter_ptr + head * filter_stride + tap, mask=is_tap, other=0.0)
            v_block_ptr = v_ptr + (start + first).to(tl.int64) * v_stride + head * v_head_stride
            v, v_tail = load_rows(v_block_ptr, v_stride, key_offs, end - first, HEAD_DIM, BLOCK_D, TAIL, False)
            acc, acc_tail = accumulate(acc, acc_tail, inverse, taps, v, v_tail, TAIL, PRECISION)

    acc = acc * inverse[:, None]
    if TAIL > 0:
        acc_tail = acc_tail * inverse[:, None]
    out_ptr += (token * HEADS + head) * HEAD_DIM
    store_rows(out_ptr, stride, row_offs, rows_left, acc, acc_tail, HEAD_DIM, BLOCK_D, TAIL)


def few_key_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    conv_kernel: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Attention of every token to the landmarks of its sequence, plus the convolution of v if there is a filter.

    q, v:         [tokens, heads, head_dim]; keys, values: [sequences, landmarks, heads, head_dim], dense; of one dtype
    conv_kernel:  [heads, width], width odd
    returns       [tokens, heads, head_dim]
    """
    tokens, heads, head_dim = q.shape
    sequences, landmarks = keys.shape[:2]
    block_d, tail = split_head_dim(head_dim)
    kind = "fp32" if q.dtype == torch.float32 else f"d<={triton.next_power_of_2(head_dim)}"
    parameters = launch_parameters("few_keys", kind, q.device)
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    launch(
        few_keys_kernel,
        (max_tiles(tokens, sequences, parameters["BLOCK_M"]) * heads,),
        q,
        keys,
        values,
        v,
        conv_kernel,
        out,
        cu_seqlens,
        sequences,
        tokens,
        q.stride(0),
        q.stride(1),
        v.stride(0),
        v.stride(1),
        0 if conv_kernel is None else conv_kernel.stride(0),
        scale,
        LANDMARKS=landmarks,
        WIDTH=0 if conv_kernel is None else conv_kernel.shape[1],
        HEADS=heads,
        HEAD_DIM=head_dim,
        BLOCK_D=block_d,
        TAIL=tail,
        PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        **parameters,
    )
    return out
