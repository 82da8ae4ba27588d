"""Attention of chunks of sorted queries to their windows of sorted keys, over several rounds of hashing.

A query attends every key that lies in its window in at least one round: one softmax over their union. A key that
several rounds find is counted in the first of them only, where Reformer divides it by their number in each (Kitaev et
al., 2020, appendix A): the same softmax, for half the comparisons.
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
from ridgeline_kernels.long_attention.combine import combine_rounds
from ridgeline_kernels.long_attention.masked import masked_attention
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters

# Below every other score, above none at all: a token attends itself only when it has nothing else.
_SELF_SCORE = tl.constexpr(-1e30)


def lsh_chunks_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    order: torch.Tensor,
    place: torch.Tensor,
    window: torch.Tensor,
    scale: float,
    chunk: int,
    width: int,
    causal: bool,
    shared: bool,
) -> torch.Tensor:
    """Attention to the keys whose `place` lies in [window, window + width) in any round, in plain PyTorch.

    order, place, window: as `lsh_order` returns them for queries in chunks of `chunk`
    shared: a token attends itself only when it sees no other key
    """
    heads = q.shape[1]
    kv_rows = place.shape[1] - heads
    key_place = place if not kv_rows else place[:, heads:].repeat_interleave(heads // kv_rows, dim=1)

    def allowed(span: slice, positions: torch.Tensor) -> torch.Tensor:
        into = key_place[:, :, None, span] - window[:, :, positions + span.start, None]
        mask = ((into >= 0) & (into < width)).any(dim=0)
        key_positions = torch.arange(span.stop - span.start, device=q.device)
        if causal:
            mask &= key_positions[None, :] <= positions[:, None]
        if shared:
            is_self = key_positions[None, :] == positions[:, None]
            others = mask & ~is_self
            mask = torch.where(others.any(dim=-1, keepdim=True), others, mask)
        return mask

    return masked_attention(q, k, v, cu_seqlens, scale, allowed)


@triton.jit(do_not_specialize=["num_tokens", "num_seqs", "rows", "first_kv_row"])
def _lsh_chunks_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    order_ptr,
    place_ptr,
    window_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    rows,
    first_kv_row,
    heads,
    group,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    scale,
    CAUSAL: tl.constexpr,
    SHARED: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDTH: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1)
    hash_round = tl.program_id(2)
    kv_head = head // group
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), CHUNK)
    if first < length:
        q_row = (hash_round.to(tl.int64) * rows + head) * num_tokens + start
        kv_row = (hash_round.to(tl.int64) * rows + first_kv_row + kv_head) * num_tokens + start
        window_row = (hash_round.to(tl.int64) * heads + head) * num_tokens
        dim_offs = tl.arange(0, BLOCK_D)
        is_dim = (dim_offs < HEAD_DIM)[None, :]
        q_places = first + tl.arange(0, CHUNK)
        is_query = q_places < length
        q_tokens = tl.load(order_ptr + q_row + q_places, mask=is_query, other=0).to(tl.int64)
        window = tl.load(window_ptr + window_row + tl.load(order_ptr + q_row + first))
        q_ptrs = q_ptr + q_tokens[:, None] * q_token_stride + head.to(tl.int64) * q_head_stride + dim_offs[None, :]
        q = tl.load(q_ptrs, mask=is_query[:, None] & is_dim, other=0.0)
        k_ptr += kv_head.to(tl.int64) * k_head_stride
        v_ptr += kv_head.to(tl.int64) * v_head_stride

        factor = scale * LOG2_E
        row_max = tl.full([CHUNK], float("-inf"), tl.float32)
        row_sum = tl.zeros([CHUNK], tl.float32)
        acc = tl.zeros([CHUNK, BLOCK_D], tl.float32)
        window_end = tl.minimum(window + WIDTH, length)
        for step in range(0, WIDTH, BLOCK_N):
            places = window + step + tl.arange(0, BLOCK_N)
            is_key = places < window_end
            k_tokens = tl.load(order_ptr + kv_row + places, mask=is_key, other=0).to(tl.int64)
            kv_mask = is_key[:, None] & is_dim
            k = tl.load(k_ptr + k_tokens[:, None] * k_token_stride + dim_offs[None, :], mask=kv_mask, other=0.0)
            v = tl.load(v_ptr + k_tokens[:, None] * v_token_stride + dim_offs[None, :], mask=kv_mask, other=0.0)
            scores = tl.dot(q, k.T, input_precision="ieee")
            if SHARED:
                scores = tl.where(q_tokens[:, None] == k_tokens[None, :], _SELF_SCORE, scores)
            is_absent = ~is_key[None, :]
            if CAUSAL:
                is_absent = is_absent | (q_tokens[:, None] < k_tokens[None, :])
            scores = tl.where(is_absent, float("-inf"), scores)
            for other in range(hash_round):
                other_round = tl.cast(other, tl.int64)
                other_keys = place_ptr + (other_round * rows + first_kv_row + kv_head) * num_tokens
                other_windows = window_ptr + (other_round * heads + head) * num_tokens
                key_places = tl.load(other_keys + k_tokens, mask=is_key, other=0)
                windows = tl.load(other_windows + q_tokens, mask=is_query, other=0)
                # Unsigned, a place before the window is one far behind it.
                into = (key_places[None, :] - windows[:, None]).to(tl.uint32, bitcast=True)
                scores = tl.where(into < WIDTH, float("-inf"), scores)
            weights, rescale, row_max, row_sum = online_softmax(scores, factor, row_max, row_sum, True)
            acc = acc * rescale[:, None]
            acc = tl.dot(weights.to(v.dtype), v, acc, input_precision="ieee")

        acc = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
        out_rows = (hash_round.to(tl.int64) * num_tokens + q_tokens) * heads + head
        out_ptrs = out_ptr + out_rows[:, None] * HEAD_DIM + dim_offs[None, :]
        tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=is_query[:, None] & is_dim)
        lse = tl.where(row_sum > 0, row_max + tl.log2(tl.where(row_sum > 0, row_sum, 1.0)), float("-inf"))
        tl.store(lse_ptr + out_rows, lse, mask=is_query)


def _parameters(head_dim: int, chunk: int, width: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    shape_class = (
        f"chunk={chunk} head_dim<={block_d} keys={width}"
        if dtype.itemsize <= 2
        else f"32-bit head_dim<={block_d} chunk={chunk}"
    )
    parameters = dict(launch_parameters("lsh_attention", shape_class, device))
    parameters["BLOCK_N"] = min(parameters["BLOCK_N"], triton.next_power_of_2(width))
    return {**parameters, "CHUNK": chunk, "WIDTH": width, "HEAD_DIM": head_dim, "BLOCK_D": block_d}


def _lsh_chunks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    order: torch.Tensor,
    place: torch.Tensor,
    window: torch.Tensor,
    scale: float,
    chunk: int,
    width: int,
    causal: bool,
    shared: bool,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return lsh_chunks_reference(q, k, v, cu_seqlens, order, place, window, scale, chunk, width, causal, shared)
    tokens, heads, head_dim = q.shape
    rounds, rows, _ = order.shape
    sequences = cu_seqlens.numel() - 1
    out = q.new_empty(q.shape)
    parts = out if rounds == 1 else q.new_empty((rounds, *q.shape))
    lse = q.new_empty((rounds, tokens, heads), dtype=torch.float32)
    launch(
        _lsh_chunks_kernel,
        (max_tiles(tokens, sequences, chunk) if tokens else 0, heads, rounds),
        q,
        k,
        v,
        parts,
        lse,
        order,
        place,
        window,
        cu_seqlens,
        tokens,
        sequences,
        rows,
        heads if rows > heads else 0,
        heads,
        heads // k.shape[1],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        scale,
        CAUSAL=causal,
        SHARED=shared,
        **_parameters(head_dim, chunk, width, q.dtype, q.device),
    )
    if rounds > 1:
        combine_rounds(parts, lse, out)
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    order: torch.Tensor,
    place: torch.Tensor,
    window: torch.Tensor,
    scale: float,
    chunk: int,
    width: int,
    causal: bool,
    shared: bool,
) -> torch.Tensor:
    return q.new_empty(q.shape)


lsh_chunks = register("lsh_attention", reference=lsh_chunks_reference, kernel=_lsh_chunks, shapes=_shapes)
