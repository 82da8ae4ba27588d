"""The middle of Nyström attention: a pseudo-inverse for each head of each sequence, wholly inside one program.

    A = softmax(scale · q̃ k̃ᵀ)        landmarks q̃, k̃ of one head of one sequence
    Z ← Aᵀ / max column sum of A,    then `iterations` times    Z ← ¼ Z (13 I - A Z (15 I - A Z (7 I - A Z)))
    values = Z y                      y = softmax(scale · q̃ kᵀ) v

(Xiong et al., 2021, equation 14.) The start is scaled by each matrix's own column sums: the largest of the whole batch,
which Hugging Face's Nystromformer takes by default, would let a sequence's output depend on its neighbours.

A sequence of no more tokens than landmarks has its tokens themselves as landmarks. Then A A⁺ A = A: the values are its
tokens' values, Nyström attention is exact attention, and nothing is inverted.

Products are in 3xTF32: tensor cores, with the 22 leading bits of both factors. The steps amplify what lies outside A's
range by 13/4 each, 1,200 times in six; TF32's own 11 bits would not survive that.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.softmax import LOG2_E
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import long_number, max_long, sequence_bounds
from ridgeline_kernels.long_attention.scratch_matrices import MATRICES, iterate_in_memory
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.packing import spans
from ridgeline_kernels.parameters import launch_parameters

MAX_LANDMARKS = 128


def pseudo_inverse_reference(a: torch.Tensor, iterations: int) -> torch.Tensor:
    """The iteration in plain PyTorch, on [..., landmarks, landmarks] with rows that sum to 1."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    z = a.transpose(-1, -2) / a.sum(dim=-2).amax(dim=-1)[..., None, None]
    for _ in range(iterations):
        p = a @ z
        z = 0.25 * z @ (13 * identity - p @ (15 * identity - p @ (7 * identity - p)))
    return z


def landmark_values_reference(
    q_means: torch.Tensor,
    k_means: torch.Tensor,
    y: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    iterations: int,
    scale: float,
) -> torch.Tensor:
    """`landmark_values` in plain PyTorch."""
    dtype = compute_dtype(v)
    landmarks = q_means.shape[1]
    values = v.new_zeros(y.shape)
    for seq, span in enumerate(spans(cu_seqlens)):
        length = span.stop - span.start
        if length <= landmarks:
            values[seq, :length] = v[span]
        else:
            a = torch.einsum("mhd,nhd->hmn", q_means[seq].to(dtype), k_means[seq].to(dtype)) * scale
            z = pseudo_inverse_reference(a.softmax(dim=-1), iterations)
            values[seq] = torch.einsum("hmn,nhd->mhd", z, y[seq].to(dtype)).to(v.dtype)
    return values


@triton.jit
def _softmax_rows(
    q_ptr, k_ptr, stride, row_offs, scale,
    LANDMARKS: tl.constexpr, HEAD_DIM: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Rows of A: [rows, SIZE] fp32, zeros past its LANDMARKS rows and columns."""
    offs = tl.arange(0, SIZE)
    scores = tl.zeros([row_offs.shape[0], SIZE], tl.float32)
    for first in range(0, HEAD_DIM, 32):
        cols = first + tl.arange(0, 32)[None, :]
        is_col = cols < HEAD_DIM
        q_mask = (row_offs < LANDMARKS)[:, None] & is_col
        k_mask = (offs < LANDMARKS)[:, None] & is_col
        q = tl.load(q_ptr + row_offs[:, None] * stride + cols, mask=q_mask, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + offs[:, None] * stride + cols, mask=k_mask, other=0.0).to(tl.float32)
        scores = tl.dot(q, tl.trans(k), scores, input_precision="tf32x3")
    scores = tl.where((offs < LANDMARKS)[None, :], scores * (scale * LOG2_E), float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
    weights = weights / tl.sum(weights, axis=1)[:, None]
    return tl.where((row_offs < LANDMARKS)[:, None], weights, 0.0)


@triton.jit
def _iterate(a, ITERATIONS: tl.constexpr, SIZE: tl.constexpr):
    """Z after the iterations: all in registers and shared memory.

    Z f(A Z) = f(Z A) Z for the polynomial f of a step. As a right factor A is split into its TF32 parts once, in shared
    memory, and needs no registers.
    """
    offs = tl.arange(0, SIZE)
    eye = tl.where(offs[:, None] == offs[None, :], 1.0, 0.0)
    z = tl.trans(a) / tl.max(tl.sum(a, axis=0))
    for _ in range(ITERATIONS):
        p = tl.dot(z, a, input_precision="tf32x3")
        t = 15.0 * eye - tl.dot(p, 7.0 * eye - p, input_precision="tf32x3")
        t = 13.0 * eye - tl.dot(p, t, input_precision="tf32x3")
        z = 0.25 * tl.dot(t, z, input_precision="tf32x3")
    return z


@triton.jit(do_not_specialize=["num_tokens", "scale"])
def landmark_values_kernel(
    q_ptr,
    k_ptr,
    y_ptr,
    v_ptr,
    values_ptr,
    scratch_ptr,
    cu_seqlens_ptr,
    num_tokens,
    v_stride,
    v_head_stride,
    scale,
    ITERATIONS: tl.constexpr,
    LANDMARKS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    seq = tl.program_id(0) // HEADS
    start, length = sequence_bounds(cu_seqlens_ptr, seq, num_tokens)
    stride = HEADS * HEAD_DIM
    head_first = seq.to(tl.int64) * LANDMARKS * stride + head * HEAD_DIM
    offs = tl.arange(0, SIZE)
    if length <= LANDMARKS:
        v_ptr += start.to(tl.int64) * v_stride + head * v_head_stride
        for first in range(0, HEAD_DIM, BLOCK_D):
            cols = first + tl.arange(0, BLOCK_D)[None, :]
            v_mask = (offs < length)[:, None] & (cols < HEAD_DIM)
            v = tl.load(v_ptr + offs[:, None] * v_stride + cols, mask=v_mask, other=0.0)
            _store_values(values_ptr + head_first, stride, offs, cols, v, LANDMARKS, HEAD_DIM)
    elif ROWS == SIZE:
        a = _softmax_rows(q_ptr + head_first, k_ptr + head_first, stride, offs, scale, LANDMARKS, HEAD_DIM, SIZE)
        z = _iterate(a, ITERATIONS, SIZE)
        for first in range(0, HEAD_DIM, BLOCK_D):
            cols = first + tl.arange(0, BLOCK_D)[None, :]
            y_mask = (offs < LANDMARKS)[:, None] & (cols < HEAD_DIM)
            y = tl.load(y_ptr + head_first + offs[:, None] * stride + cols, mask=y_mask, other=0.0)
            values = tl.dot(z, y, input_precision="tf32x3")
            _store_values(values_ptr + head_first, stride, offs, cols, values, LANDMARKS, HEAD_DIM)
    else:
        a_ptr = scratch_ptr + (long_number(start, LANDMARKS) * HEADS + head) * (MATRICES * SIZE * SIZE)
        column_sums = tl.zeros([SIZE], tl.float32)
        for row in range(0, SIZE, ROWS):
            row_offs = row + tl.arange(0, ROWS)
            a = _softmax_rows(
                q_ptr + head_first, k_ptr + head_first, stride, row_offs, scale, LANDMARKS, HEAD_DIM, SIZE
            )
            tl.store(a_ptr + row_offs[:, None] * SIZE + offs[None, :], a)
            column_sums += tl.sum(a, axis=0)
        z_ptr = iterate_in_memory(a_ptr, tl.max(column_sums), ITERATIONS, SIZE, ROWS, BLOCK_K)
        for row in range(0, SIZE, ROWS):
            row_offs = row + tl.arange(0, ROWS)
            for first in range(0, HEAD_DIM, BLOCK_D):
                cols = first + tl.arange(0, BLOCK_D)[None, :]
                values = tl.zeros([ROWS, BLOCK_D], tl.float32)
                for k_first in range(0, SIZE, BLOCK_K):
                    k_offs = k_first + tl.arange(0, BLOCK_K)
                    z = tl.load(z_ptr + row_offs[:, None] * SIZE + k_offs[None, :])
                    y_mask = (k_offs < LANDMARKS)[:, None] & (cols < HEAD_DIM)
                    y = tl.load(y_ptr + head_first + k_offs[:, None] * stride + cols, mask=y_mask, other=0.0)
                    values = tl.dot(z, y, values, input_precision="tf32x3")
                _store_values(values_ptr + head_first, stride, row_offs, cols, values, LANDMARKS, HEAD_DIM)


@triton.jit
def _store_values(ptr, stride, row_offs, cols, values, LANDMARKS: tl.constexpr, HEAD_DIM: tl.constexpr):
    mask = (row_offs < LANDMARKS)[:, None] & (cols < HEAD_DIM)
    tl.store(ptr + row_offs[:, None] * stride + cols, values.to(ptr.dtype.element_ty), mask=mask)


def landmark_values(
    q_means: torch.Tensor,
    k_means: torch.Tensor,
    y: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    iterations: int,
    scale: float,
) -> torch.Tensor:
    """What the landmarks stand for as keys: [sequences, landmarks, heads, head_dim], v's dtype.

    q_means, k_means, y: [sequences, landmarks, heads, head_dim], dense; y in fp32; v: [tokens, heads, head_dim]
    """
    sequences, landmarks, heads, head_dim = y.shape
    size = max(triton.next_power_of_2(landmarks), 16)
    parameters = launch_parameters(
        "landmark_values", f"landmarks<={size}{' fp32' if v.dtype == torch.float32 else ''}", v.device
    )
    values = torch.empty(y.shape, dtype=v.dtype, device=v.device)
    in_memory = parameters["ROWS"] < size
    inverted = max_long(v.shape[0], landmarks) * heads if in_memory else 0
    launch(
        landmark_values_kernel,
        (sequences * heads,),
        q_means,
        k_means,
        y,
        v,
        values,
        torch.empty(inverted, MATRICES.value, size, size, dtype=torch.float32, device=v.device),
        cu_seqlens,
        v.shape[0],
        v.stride(0),
        v.stride(1),
        scale,
        ITERATIONS=iterations,
        LANDMARKS=landmarks,
        HEADS=heads,
        HEAD_DIM=head_dim,
        SIZE=size,
        **parameters,
    )
    return values
