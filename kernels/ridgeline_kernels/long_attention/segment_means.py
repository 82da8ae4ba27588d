"""Landmarks of Nyström attention: means of the queries and of the keys over segments of each sequence.

    landmark[i] = mean of x[floor(i · n / c)], …, x[floor((i + 1) · n / c) - 1]        i < c = min(n, landmarks)

Every token of the n is in one segment, and segments differ by one token at most. A sequence of no more tokens than
landmarks has its tokens themselves, and rows of zeros after them.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import sequence_bounds
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.packing import spans
from ridgeline_kernels.parameters import launch_parameters


def segment_means_reference(x: torch.Tensor, cu_seqlens: torch.Tensor, landmarks: int) -> torch.Tensor:
    """Landmarks of one tensor in plain PyTorch: [sequences, landmarks, heads, head_dim]."""
    dtype = compute_dtype(x)
    means = x.new_zeros(cu_seqlens.numel() - 1, landmarks, *x.shape[1:])
    for seq, span in enumerate(spans(cu_seqlens)):
        length = span.stop - span.start
        count = min(length, landmarks)
        bounds = [i * length // max(count, 1) for i in range(count + 1)]
        for i in range(count):
            segment = x[span.start + bounds[i] : span.start + bounds[i + 1]]
            means[seq, i] = segment.to(dtype).mean(dim=0).to(x.dtype)
    return means


@triton.jit
def _store_mean(
    x_ptr,
    out_ptr,
    first,
    count,
    out_row,
    x_stride,
    x_head_stride,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    token_offs = tl.arange(0, BLOCK_T)
    head_offs = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    col_offs = tl.arange(0, BLOCK_D)
    is_col = (head_offs < HEADS)[:, None] & (col_offs < HEAD_DIM)[None, :]
    x_ptrs = (
        x_ptr
        + (first + token_offs.to(tl.int64))[:, None, None] * x_stride
        + (head_offs.to(tl.int64)[:, None] * x_head_stride + col_offs[None, :])[None, :, :]
    )
    acc = tl.zeros([BLOCK_T, BLOCK_H, BLOCK_D], tl.float32)
    for done in range(0, count, BLOCK_T):
        mask = (done + token_offs < count)[:, None, None] & is_col[None, :, :]
        acc += tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)
        x_ptrs += BLOCK_T * x_stride
    mean = tl.sum(acc, axis=0) / tl.maximum(count, 1)
    out_ptrs = out_ptr + (out_row * HEADS + head_offs)[:, None] * HEAD_DIM + col_offs[None, :]
    tl.store(out_ptrs, mean.to(out_ptr.dtype.element_ty), mask=is_col)


@triton.jit(do_not_specialize=["num_tokens"])
def _segment_means_kernel(
    q_ptr,
    k_ptr,
    q_out_ptr,
    k_out_ptr,
    cu_seqlens_ptr,
    num_tokens,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    LANDMARKS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    segment = row % LANDMARKS
    start, length = sequence_bounds(cu_seqlens_ptr, row // LANDMARKS, num_tokens)
    segments = tl.maximum(tl.minimum(length, LANDMARKS), 1)
    # Past the last segment both bounds are at or past the sequence's end.
    first = tl.minimum(segment * length // segments, length)
    count = (tl.minimum((segment + 1) * length // segments, length) - first).to(tl.int32)
    if tl.program_id(2) == 0:
        _store_mean(
            q_ptr, q_out_ptr, start + first, count, row, q_stride, q_head_stride,
            HEADS, HEAD_DIM, BLOCK_T, BLOCK_H, BLOCK_D,
        )  # fmt: skip
    else:
        _store_mean(
            k_ptr, k_out_ptr, start + first, count, row, k_stride, k_head_stride,
            HEADS, HEAD_DIM, BLOCK_T, BLOCK_H, BLOCK_D,
        )  # fmt: skip


def segment_means(
    q: torch.Tensor, k: torch.Tensor, cu_seqlens: torch.Tensor, landmarks: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Landmarks of q and k, [tokens, heads, head_dim], in one launch: each [sequences, landmarks, heads, head_dim].

    They have the dtype of q and k; sums are in fp32.
    """
    heads, head_dim = q.shape[1:]
    sequences = cu_seqlens.numel() - 1
    block_d = triton.next_power_of_2(head_dim)
    parameters = {**launch_parameters("segment_means", f"d<={block_d}", q.device), "BLOCK_D": block_d}
    shape = (sequences, landmarks, heads, head_dim)
    q_means, k_means = (torch.empty(shape, dtype=q.dtype, device=q.device) for _ in range(2))
    launch(
        _segment_means_kernel,
        (sequences * landmarks, triton.cdiv(heads, parameters["BLOCK_H"]), 2),
        q,
        k,
        q_means,
        k_means,
        cu_seqlens,
        q.shape[0],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        LANDMARKS=landmarks,
        HEADS=heads,
        HEAD_DIM=head_dim,
        **parameters,
    )
    return q_means, k_means
