"""DeBERTa-v2's and -v3's disentangled attention over packed sequences (He et al., 2021).

    score[i, j] = scale · (q[i]·k[j] + content_to_position[i, bucket(i - j)] + position_to_content[j, bucket(i - j)])

The last two are products of queries with position keys and of keys with position queries, one row a token, made
outside; the kernel picks from them by the bucket of the distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_range, check_same_dtype, check_tensor, shows_values
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_bounds, check_qkv, check_scale
from ridgeline_kernels.exact_attention.reference import distances, masked_softmax
from ridgeline_kernels.exact_attention.rows import accumulate, dot_rows, load_rows, split_head_dim, store_rows
from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles, spans
from ridgeline_kernels.parameters import launch_parameters


def disentangled_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    buckets: torch.Tensor,
    content_to_position: torch.Tensor | None,
    position_to_content: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """`disentangled_attention` in plain PyTorch."""
    dtype = compute_dtype(q)
    reach = buckets.shape[0] // 2
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    for rows in spans(cu_seqlens):
        length = rows.stop - rows.start
        query, key, value = (x[rows].to(dtype).transpose(0, 1) for x in (q, k, v))
        scores = query @ key.transpose(1, 2)
        distance = -distances(length, length, q.device)
        bucket = buckets.long()[distance.clamp(-reach, reach) + reach].expand(q.shape[1], -1, -1)
        if content_to_position is not None:
            scores = scores + content_to_position[rows].to(dtype).transpose(0, 1).gather(2, bucket)
        if position_to_content is not None:
            by_key = position_to_content[rows].to(dtype).transpose(0, 1).gather(2, bucket.transpose(1, 2))
            scores = scores + by_key.transpose(1, 2)
        weights = masked_softmax(scores * scale, torch.ones_like(distance, dtype=torch.bool))
        out[rows] = (weights @ value).transpose(0, 1).to(q.dtype)
    return out


@triton.jit(do_not_specialize=["num_seqs", "num_tokens", "reach"])
def _disentangled_attention_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    cu_seqlens_ptr,
    buckets_ptr,
    by_query_ptr,
    by_key_ptr,
    num_seqs,
    num_tokens,
    q_stride,
    q_head_stride,
    k_stride,
    k_head_stride,
    v_stride,
    v_head_stride,
    by_query_stride,
    by_query_head_stride,
    by_key_stride,
    by_key_head_stride,
    scale,
    reach,
    BUCKETS: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    TAIL: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1).to(tl.int64)
    _, start, length, row_first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), BLOCK_M)
    if row_first >= length:
        return
    row_offs = tl.arange(0, BLOCK_M)
    col_offs = tl.arange(0, BLOCK_N)
    rows_left = length - row_first
    token = (start + row_first).to(tl.int64)
    q_ptr += token * q_stride + head * q_head_stride
    q, q_tail = load_rows(q_ptr, q_stride, row_offs, rows_left, HEAD_DIM, BLOCK_D, TAIL, False)
    first = start.to(tl.int64)
    k_ptr += first * k_stride + head * k_head_stride
    v_ptr += first * v_stride + head * v_head_stride
    if by_query_ptr is not None:
        by_query_ptr += token * by_query_stride + head * by_query_head_stride
    if by_key_ptr is not None:
        by_key_ptr += first * by_key_stride + head * by_key_head_stride
    row_max = tl.full([BLOCK_M], float("-inf"), tl.float32)
    row_sum = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    acc_tail = 0
    if TAIL > 0:
        acc_tail = tl.zeros([BLOCK_M, TAIL], tl.float32)
    for k_first in range(0, length, BLOCK_N):
        keys_left = length - k_first
        block = tl.cast(k_first, tl.int64)
        k, k_tail = load_rows(k_ptr + block * k_stride, k_stride, col_offs, keys_left, HEAD_DIM, BLOCK_D, TAIL, False)
        scores = dot_rows(q, q_tail, k, k_tail, TAIL, PRECISION)
        is_real = (row_offs < rows_left)[:, None] & (col_offs < keys_left)[None, :]
        distance = (row_first + row_offs)[:, None] - (k_first + col_offs)[None, :]
        distance = tl.minimum(tl.maximum(distance, -reach), reach)
        bucket = tl.minimum(tl.maximum(tl.load(buckets_ptr + reach + distance), 0), BUCKETS - 1)
        if by_query_ptr is not None:
            ptrs = by_query_ptr + row_offs[:, None] * by_query_stride + bucket
            scores += tl.load(ptrs, mask=is_real, other=0.0).to(tl.float32)
        if by_key_ptr is not None:
            ptrs = by_key_ptr + block * by_key_stride + col_offs[None, :] * by_key_stride + bucket
            scores += tl.load(ptrs, mask=is_real, other=0.0).to(tl.float32)
        scores = tl.where((col_offs < keys_left)[None, :], scores, float("-inf"))
        # Every block has a key and every key a finite score: no row is without one.
        weights, rescale, row_max, row_sum = online_softmax(scores, scale * LOG2_E, row_max, row_sum, False)
        v, v_tail = load_rows(v_ptr + block * v_stride, v_stride, col_offs, keys_left, HEAD_DIM, BLOCK_D, TAIL, False)
        acc, acc_tail = accumulate(acc, acc_tail, rescale, weights, v, v_tail, TAIL, PRECISION)
    inverse = 1.0 / row_sum
    acc = acc * inverse[:, None]
    if TAIL > 0:
        acc_tail = acc_tail * inverse[:, None]
    out_ptr += (token * HEADS + head) * HEAD_DIM
    store_rows(out_ptr, HEADS * HEAD_DIM, row_offs, rows_left, acc, acc_tail, HEAD_DIM, BLOCK_D, TAIL)


def _parameters(q: torch.Tensor, sequences: int) -> Mapping[str, Any]:
    head_dim = max(triton.next_power_of_2(q.shape[2]), 64)
    length = "short" if q.shape[0] // max(sequences, 1) <= 32 else "long"
    kind = "fp32" if q.dtype == torch.float32 else length
    block_d, tail = split_head_dim(q.shape[2])
    precision = "ieee" if q.dtype == torch.float32 else "tf32"
    found = launch_parameters("disentangled_attention", f"d<={head_dim}, {kind}", q.device)
    return {**found, "HEAD_DIM": q.shape[2], "BLOCK_D": block_d, "TAIL": tail, "PRECISION": precision}


def _disentangled_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    buckets: torch.Tensor,
    content_to_position: torch.Tensor | None,
    position_to_content: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return disentangled_attention_reference(
            q, k, v, cu_seqlens, buckets, content_to_position, position_to_content, scale
        )
    tokens, heads, _ = q.shape
    sequences = cu_seqlens.numel() - 1
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    terms = [term for term in (content_to_position, position_to_content) if term is not None]
    strides = [stride for x in (q, k, v) for stride in x.stride()[:2]]
    for term in (content_to_position, position_to_content):
        strides += (0, 0) if term is None else term.stride()[:2]
    parameters = _parameters(q, sequences)
    launch(
        _disentangled_attention_kernel,
        (max_tiles(tokens, sequences, parameters["BLOCK_M"]), heads),
        q,
        k,
        v,
        out,
        cu_seqlens,
        buckets,
        content_to_position,
        position_to_content,
        sequences,
        tokens,
        *strides,
        scale,
        buckets.shape[0] // 2,
        BUCKETS=terms[0].shape[2],
        HEADS=heads,
        **parameters,
    )
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    buckets: torch.Tensor,
    content_to_position: torch.Tensor | None,
    position_to_content: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register(
    "disentangled_attention",
    reference=disentangled_attention_reference,
    kernel=_disentangled_attention,
    shapes=_shapes,
)


def disentangled_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    buckets: torch.Tensor,
    *,
    content_to_position: torch.Tensor | None = None,
    position_to_content: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of every sequence to itself, with DeBERTa's terms of content and position.

    q, k, v:              [tokens, heads, head_dim], fp16/bf16/fp32; head_dim at most 256; tokens, heads may be strided
    cu_seqlens:           int32 [sequences + 1]
    buckets:              int32 [2 · reach + 1], `position_bias.disentangled_buckets`: columns by distance (query - key)
    content_to_position:  [tokens, heads, columns], q's dtype: each query · the position keys; or None
    position_to_content:  [tokens, heads, columns], q's dtype: each key · the position queries; or None
    scale:                of all terms, above 0; by default (head_dim · (1 + the number of terms given)) ** -0.5
    returns               [tokens, heads, head_dim], q's dtype; undefined on a GPU for tokens of no sequence

    As in `attention`, the tiles follow the batch's mean length.

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    check_bounds(q, k, cu_seqlens, None)
    if k.shape[1] != q.shape[1]:
        raise ArgumentError(f"k has {k.shape[1]} heads; it must have the {q.shape[1]} of q")
    terms = {"content_to_position": content_to_position, "position_to_content": position_to_content}
    given = {name: term for name, term in terms.items() if term is not None}
    if not given:
        raise ArgumentError("content_to_position and position_to_content are both None; give one, or use attention")
    widths: list[int] = []
    for name, term in given.items():
        check_tensor(name, term, (*q.shape[:2], widths[0] if widths else "columns"), like=q)
        check_same_dtype(name, term, "q", q)
        check_range(f"{name}'s number of columns", term.shape[2], 1)
        widths.append(term.shape[2])
    columns = widths[0]
    check_tensor("buckets", buckets, ("2 * reach + 1",), dtypes=(torch.int32,), like=q)
    if buckets.shape[0] % 2 == 0:
        raise ArgumentError(f"buckets has {buckets.shape[0]} elements; it needs an odd number: from -reach to reach")
    if shows_values(buckets) and (int(buckets.min()) < 0 or int(buckets.max()) >= columns):
        raise ArgumentError(f"buckets names columns {int(buckets.min())} to {int(buckets.max())}; there are {columns}")
    scale = (q.shape[2] * (1 + len(given))) ** -0.5 if scale is None else float(scale)
    check_scale(scale)
    out: torch.Tensor = _op(q, k, v, cu_seqlens, buckets, content_to_position, position_to_content, scale)
    return out
