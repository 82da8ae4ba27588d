"""Keys and values of each sequence projected along its tokens to `rank` rows: a GEMM per sequence, k and v in one.

    k'[b, r] = Σₜ E[t, r] k[t]        v'[b, r] = Σₜ F[t, r] v[t]        over the tokens t of sequence b

One program adds up CHUNK tokens of one head; a second kernel adds the chunks of a sequence in their order. A sequence
within one chunk is written at once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.rows import load_rows, split_head_dim, store_rows
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import max_parts, part_number, sequence_bounds
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters


@triton.jit
def _add_product(
    acc, acc_tail, weights, x_ptr, stride, offs, left,
    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr, TAIL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """acc + weightsᵀ x over `left` tokens; weights [tokens, rank]."""
    x, x_tail = load_rows(x_ptr, stride, offs, left, HEAD_DIM, BLOCK_D, TAIL, False)
    acc = tl.dot(tl.trans(weights), x, acc, input_precision=PRECISION)
    if TAIL > 0:
        acc_tail = tl.dot(tl.trans(weights), x_tail, acc_tail, input_precision=PRECISION)
    return acc, acc_tail


@triton.jit(do_not_specialize=["num_seqs", "num_tokens", "max_length"])
def linformer_projection_kernel(
    k_ptr,
    v_ptr,
    e_ptr,
    f_ptr,
    k_out_ptr,
    v_out_ptr,
    k_part_ptr,
    v_part_ptr,
    cu_seqlens_ptr,
    num_seqs,
    num_tokens,
    max_length,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    e_stride,
    e_head_stride,
    f_stride,
    f_head_stride,
    RANK: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_T: tl.constexpr,
    CHUNK: tl.constexpr,
):
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    seq, start, length, chunk_first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0) // HEADS, CHUNK)
    # Rows past the projection are never read.
    tokens = tl.maximum(tl.minimum(tl.minimum(length, max_length) - chunk_first, CHUNK), 0)
    rank_offs = tl.program_id(1) * BLOCK_R + tl.arange(0, BLOCK_R)
    token_offs = tl.arange(0, BLOCK_T)

    first_token = (start + chunk_first).to(tl.int64)
    k_ptr += first_token * k_stride + head * k_head_stride
    v_ptr += first_token * v_stride + head * v_head_stride
    e_ptr += chunk_first.to(tl.int64) * e_stride + head * e_head_stride
    e_ptrs = e_ptr + token_offs.to(tl.int64)[:, None] * e_stride + rank_offs[None, :]
    if f_ptr is not None:
        f_ptr += chunk_first.to(tl.int64) * f_stride + head * f_head_stride
        f_ptrs = f_ptr + token_offs.to(tl.int64)[:, None] * f_stride + rank_offs[None, :]

    k_acc = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    v_acc = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    k_tail = 0
    v_tail = 0
    if TAIL > 0:
        k_tail = tl.zeros([BLOCK_R, TAIL], tl.float32)
        v_tail = tl.zeros([BLOCK_R, TAIL], tl.float32)
    for first in range(0, tokens, BLOCK_T):
        left = tokens - first
        mask = (token_offs < left)[:, None] & (rank_offs < RANK)[None, :]
        e = tl.load(e_ptrs, mask=mask, other=0.0)
        k_acc, k_tail = _add_product(
            k_acc, k_tail, e, k_ptr, k_stride, token_offs, left, HEAD_DIM, BLOCK_D, TAIL, PRECISION
        )
        if f_ptr is not None:
            e = tl.load(f_ptrs, mask=mask, other=0.0)
            f_ptrs += BLOCK_T * f_stride
        v_acc, v_tail = _add_product(
            v_acc, v_tail, e, v_ptr, v_stride, token_offs, left, HEAD_DIM, BLOCK_D, TAIL, PRECISION
        )
        k_ptr += BLOCK_T * k_stride
        v_ptr += BLOCK_T * v_stride
        e_ptrs += BLOCK_T * e_stride

    stride = HEADS * HEAD_DIM
    # An empty sequence has one tile, of no tokens, which writes its zeros.
    if chunk_first < tl.maximum(length, 1):
        if length <= CHUNK:
            row = seq.to(tl.int64) * RANK * stride + head * HEAD_DIM
            store_rows(k_out_ptr + row, stride, rank_offs, RANK, k_acc, k_tail, HEAD_DIM, BLOCK_D, TAIL)
            store_rows(v_out_ptr + row, stride, rank_offs, RANK, v_acc, v_tail, HEAD_DIM, BLOCK_D, TAIL)
        else:
            row = part_number(start, chunk_first, CHUNK) * RANK * stride + head * HEAD_DIM
            store_rows(k_part_ptr + row, stride, rank_offs, RANK, k_acc, k_tail, HEAD_DIM, BLOCK_D, TAIL)
            store_rows(v_part_ptr + row, stride, rank_offs, RANK, v_acc, v_tail, HEAD_DIM, BLOCK_D, TAIL)


@triton.jit
def _add_chunks(
    part_ptr, out_ptr, start, length, seq, SIZE: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], tl.float32)
    for chunk in range(0, tl.cdiv(length, CHUNK), PARTS):
        first = (chunk + tl.arange(0, PARTS)) * CHUNK
        parts = part_number(start, first, CHUNK)
        mask = (first < length)[:, None] & (offs < SIZE)[None, :]
        acc += tl.sum(tl.load(part_ptr + parts[:, None] * SIZE + offs[None, :], mask=mask, other=0.0), axis=0)
    tl.store(out_ptr + seq.to(tl.int64) * SIZE + offs, acc.to(out_ptr.dtype.element_ty), mask=offs < SIZE)


@triton.jit(do_not_specialize=["num_tokens"])
def _add_chunks_kernel(
    k_part_ptr,
    v_part_ptr,
    k_out_ptr,
    v_out_ptr,
    cu_seqlens_ptr,
    num_tokens,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    seq = tl.program_id(0)
    start, length = sequence_bounds(cu_seqlens_ptr, seq, num_tokens)
    if length > CHUNK:
        if tl.program_id(2) == 0:
            _add_chunks(k_part_ptr, k_out_ptr, start, length, seq, SIZE, BLOCK, PARTS, CHUNK)
        else:
            _add_chunks(v_part_ptr, v_out_ptr, start, length, seq, SIZE, BLOCK, PARTS, CHUNK)


def project_keys_and_values(
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    key_projection: torch.Tensor,
    value_projection: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projected keys and values, packed: each [sequences · rank, heads, head_dim], dtype of k and v.

    k, v: [tokens, heads, head_dim]; projections: [max_length, rank] or [heads, max_length, rank], of their dtype;
    None: the keys'. Tokens past max_length count as zeros.
    """
    tokens, heads, head_dim = k.shape
    max_length, rank = key_projection.shape[-2:]
    sequences = cu_seqlens.numel() - 1
    block_d, tail = split_head_dim(head_dim)
    kind = (
        "fp32"
        if k.dtype == torch.float32
        else f"d<={triton.next_power_of_2(head_dim)}{' padded' if block_d + tail > head_dim else ''}"
    )
    options = dict(launch_parameters("linformer_projection", kind, k.device))
    chunk, block, parts_at_once = options["CHUNK"], options.pop("ADDED_BLOCK"), options.pop("ADDED_PARTS")
    parts = max_parts(tokens, chunk)
    outs = [torch.empty(sequences * rank, heads, head_dim, dtype=k.dtype, device=k.device) for _ in "kv"]
    part = [torch.empty(parts, rank, heads, head_dim, dtype=torch.float32, device=k.device) for _ in "kv"]
    launch(
        linformer_projection_kernel,
        (max_tiles(tokens, sequences, chunk) * heads, triton.cdiv(rank, options["BLOCK_R"])),
        k,
        v,
        key_projection,
        value_projection,
        *outs,
        *part,
        cu_seqlens,
        sequences,
        tokens,
        max_length,
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        *_strides(key_projection),
        *_strides(value_projection),
        RANK=rank,
        HEADS=heads,
        HEAD_DIM=head_dim,
        BLOCK_D=block_d,
        TAIL=tail,
        PRECISION="ieee" if k.dtype == torch.float32 else "tf32",
        **options,
    )
    if parts:
        size = rank * heads * head_dim
        launch(
            _add_chunks_kernel,
            (sequences, triton.cdiv(size, block), 2),
            *part,
            *outs,
            cu_seqlens,
            tokens,
            SIZE=size,
            BLOCK=block,
            PARTS=parts_at_once,
            CHUNK=chunk,
        )
    return outs[0], outs[1]


def _strides(projection: torch.Tensor | None) -> tuple[int, int]:
    """Of tokens and of heads; 0 where the heads share it."""
    if projection is None:
        return 0, 0
    return projection.stride(-2), projection.stride(0) if projection.ndim == 3 else 0
