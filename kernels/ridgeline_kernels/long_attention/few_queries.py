"""Attention of a few queries per sequence to all its keys: the keys are split over programs.

    out[b, i] = Σⱼ softmaxⱼ(scale · q[b, i]·k[j]) v[j]        over the tokens j of sequence b

One program takes CHUNK keys of one head; a second kernel joins the chunks of a sequence in their order, each weighed by
the sum of its exponentials. Nothing is added up in an order that differs from run to run, or with other sequences.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.rows import accumulate, dot_rows, load_rows, split_head_dim, store_rows
from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.chunks import max_parts, part_number, sequence_bounds
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.packing import max_tiles, spans
from ridgeline_kernels.parameters import launch_parameters


def few_query_attention_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float
) -> torch.Tensor:
    """`few_query_attention` in plain PyTorch."""
    dtype = compute_dtype(q)
    out = torch.zeros(q.shape, dtype=dtype, device=q.device)
    for seq, span in enumerate(spans(cu_seqlens)):
        if span.start < span.stop:
            scores = torch.einsum("mhd,nhd->hmn", q[seq].to(dtype), k[span].to(dtype)) * scale
            out[seq] = torch.einsum("hmn,nhd->mhd", scores.softmax(dim=-1), v[span].to(dtype))
    return out


@triton.jit(do_not_specialize=["num_seqs", "num_tokens", "scale"])
def few_queries_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    part_ptr,
    lse_ptr,
    cu_seqlens_ptr,
    num_seqs,
    num_tokens,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    scale,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CHUNK: tl.constexpr,
):
    head = (tl.program_id(0) % HEADS).to(tl.int64)
    seq, start, length, chunk_first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0) // HEADS, CHUNK)
    keys = tl.minimum(tl.maximum(length - chunk_first, 0), CHUNK)

    q_offs = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    key_offs = tl.arange(0, BLOCK_N)
    row_stride = HEADS * HEAD_DIM
    seq_rows = seq.to(tl.int64) * QUERIES
    q, q_tail = load_rows(
        q_ptr + seq_rows * row_stride + head * HEAD_DIM, row_stride, q_offs, QUERIES, HEAD_DIM, BLOCK_D, TAIL, False
    )
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    acc_tail = 0
    if TAIL > 0:
        acc_tail = tl.zeros([BLOCK_M, TAIL], tl.float32)
    for first in range(0, keys, BLOCK_N):
        token = (start + chunk_first + first).to(tl.int64)
        k_block_ptr = k_ptr + token * k_stride + head * k_head_stride
        k, k_tail = load_rows(k_block_ptr, k_stride, key_offs, keys - first, HEAD_DIM, BLOCK_D, TAIL, False)
        scores = dot_rows(q, q_tail, k, k_tail, TAIL, PRECISION)
        scores = tl.where((key_offs < keys - first)[None, :], scores, float("-inf"))
        weights, rescale, row_max, row_sum = online_softmax(scores, scale * LOG2_E, row_max, row_sum, False)
        v_block_ptr = v_ptr + token * v_stride + head * v_head_stride
        v, v_tail = load_rows(v_block_ptr, v_stride, key_offs, keys - first, HEAD_DIM, BLOCK_D, TAIL, False)
        acc, acc_tail = accumulate(acc, acc_tail, rescale, weights, v, v_tail, TAIL, PRECISION)

    inverse = 1.0 / tl.where(row_sum > 0, row_sum, 1.0)
    acc = acc * inverse[:, None]
    if TAIL > 0:
        acc_tail = acc_tail * inverse[:, None]
    # An empty sequence has one tile, of no keys, which writes its zeros.
    if chunk_first < tl.maximum(length, 1):
        if length <= CHUNK:
            out_ptr += seq_rows * row_stride + head * HEAD_DIM
            store_rows(out_ptr, row_stride, q_offs, QUERIES, acc, acc_tail, HEAD_DIM, BLOCK_D, TAIL)
        else:
            part_row = (part_number(start, chunk_first, CHUNK) * HEADS + head) * QUERIES
            part_ptr += part_row * HEAD_DIM
            store_rows(part_ptr, HEAD_DIM, q_offs, QUERIES, acc, acc_tail, HEAD_DIM, BLOCK_D, TAIL)
            tl.store(lse_ptr + part_row + q_offs, row_max + tl.log2(row_sum), mask=q_offs < QUERIES)


@triton.jit(do_not_specialize=["num_tokens"])
def _join_chunks_kernel(
    part_ptr,
    lse_ptr,
    out_ptr,
    cu_seqlens_ptr,
    num_tokens,
    QUERIES: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ROWS: tl.constexpr,
    PARTS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    head = tl.program_id(0) % HEADS
    seq = tl.program_id(0) // HEADS
    start, length = sequence_bounds(cu_seqlens_ptr, seq, num_tokens)
    if length > CHUNK:
        row_offs = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        col_offs = tl.arange(0, BLOCK_D)
        is_row = row_offs < QUERIES
        row_max = tl.full([ROWS], float("-inf"), tl.float32)
        row_sum = tl.zeros([ROWS], tl.float32)
        acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
        for chunk in range(0, tl.cdiv(length, CHUNK), PARTS):
            first = (chunk + tl.arange(0, PARTS)) * CHUNK
            rows = ((part_number(start, first, CHUNK) * HEADS + head) * QUERIES)[:, None] + row_offs[None, :]
            is_part = (first < length)[:, None] & is_row[None, :]
            lse = tl.load(lse_ptr + rows, mask=is_part, other=float("-inf"))
            part = tl.load(
                part_ptr + rows[:, :, None] * HEAD_DIM + col_offs[None, None, :],
                mask=is_part[:, :, None] & (col_offs < HEAD_DIM)[None, None, :],
                other=0.0,
            )
            new_max = tl.where(is_row, tl.maximum(row_max, tl.max(lse, axis=0)), 0.0)
            weights = tl.exp2(lse - new_max[None, :])
            rescale = tl.exp2(row_max - new_max)
            acc = acc * rescale[:, None] + tl.sum(part * weights[:, :, None], axis=0)
            row_sum = row_sum * rescale + tl.sum(weights, axis=0)
            row_max = new_max
        acc = acc / tl.where(is_row, row_sum, 1.0)[:, None]
        out_rows = (seq.to(tl.int64) * QUERIES + row_offs) * HEADS + head
        mask = is_row[:, None] & (col_offs < HEAD_DIM)[None, :]
        tl.store(out_ptr + out_rows[:, None] * HEAD_DIM + col_offs[None, :], acc, mask=mask)


def few_query_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of `queries` queries per sequence to the keys of their sequence.

    q:       [sequences, queries, heads, head_dim], dense
    k, v:    [tokens, heads, head_dim], of q's dtype
    returns  fp32 [sequences, queries, heads, head_dim]; zeros for empty sequences
    """
    sequences, queries, heads, head_dim = q.shape
    tokens = k.shape[0]
    block_d, tail = split_head_dim(head_dim)
    kind = (
        "fp32"
        if q.dtype == torch.float32
        else f"d<={triton.next_power_of_2(head_dim)}{' padded' if block_d + tail > head_dim else ''}"
    )
    options = dict(launch_parameters("few_queries", kind, q.device))
    block_m = min(max(triton.next_power_of_2(queries), 16), options["BLOCK_M"])
    chunk, rows, parts_at_once = options["CHUNK"], options.pop("JOINED_ROWS"), options.pop("JOINED_PARTS")
    parts = max_parts(tokens, chunk)
    out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    part = torch.empty(parts, heads, queries, head_dim, dtype=torch.float32, device=q.device)
    lse = torch.empty(parts, heads, queries, dtype=torch.float32, device=q.device)
    shape = {"QUERIES": queries, "HEADS": heads, "HEAD_DIM": head_dim}
    launch(
        few_queries_kernel,
        (max_tiles(tokens, sequences, chunk) * heads, triton.cdiv(queries, block_m)),
        q,
        k,
        v,
        out,
        part,
        lse,
        cu_seqlens,
        sequences,
        tokens,
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        scale,
        BLOCK_D=block_d,
        TAIL=tail,
        PRECISION="ieee" if q.dtype == torch.float32 else "tf32",
        **shape,
        **{**options, "BLOCK_M": block_m},
    )
    if parts:
        launch(
            _join_chunks_kernel,
            (sequences * heads, triton.cdiv(queries, rows)),
            part,
            lse,
            out,
            cu_seqlens,
            tokens,
            BLOCK_D=triton.next_power_of_2(head_dim),
            ROWS=rows,
            PARTS=parts_at_once,
            CHUNK=chunk,
            **shape,
        )
    return out
