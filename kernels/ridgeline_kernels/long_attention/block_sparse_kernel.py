"""The kernel that walks lists of key blocks.

One program takes a block of queries of one sequence and head. The blocks that the end of the sequence or the causal
diagonal cuts are the last of its list, as it ascends: only these are masked.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ridgeline_kernels.exact_attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.language.tiles import find_tile


@triton.jit
def _attend_blocks(
    q,
    k_ptrs,
    v_ptrs,
    k_token_stride,
    v_token_stride,
    indices_ptr,
    begin,
    end,
    most_index,
    q_pos,
    length,
    is_dim,
    factor,
    acc,
    row_max,
    row_sum,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Attend entries `begin` to `end` of the list, in steps of BLOCK_N keys."""
    steps: tl.constexpr = BLOCK // BLOCK_N
    # Each step's block is loaded one step before it is needed.
    index = tl.load(indices_ptr + begin, mask=begin < end, other=0)
    for step in range(begin * steps, end * steps):
        first = tl.minimum(tl.maximum(index, 0), most_index) * BLOCK + step % steps * BLOCK_N
        following = (step + 1) // steps
        index = tl.load(indices_ptr + following, mask=following < end, other=0)
        k_step_ptrs = k_ptrs + first.to(tl.int64) * k_token_stride
        v_step_ptrs = v_ptrs + first.to(tl.int64) * v_token_stride
        key_offs = first + tl.arange(0, BLOCK_N)
        if MASKED:
            mask = (key_offs < length)[:, None] & is_dim
            k = tl.load(k_step_ptrs, mask=mask, other=0.0)
            v = tl.load(v_step_ptrs, mask=mask, other=0.0)
        elif PADDED:
            k = tl.load(k_step_ptrs, mask=is_dim, other=0.0)
            v = tl.load(v_step_ptrs, mask=is_dim, other=0.0)
        else:
            k = tl.load(k_step_ptrs)
            v = tl.load(v_step_ptrs)
        scores = tl.dot(q, k.T, input_precision="ieee")
        if MASKED:
            is_seen = (key_offs < length)[None, :]
            if CAUSAL:
                is_seen = is_seen & (key_offs[None, :] <= q_pos[:, None])
            scores = tl.where(is_seen, scores, float("-inf"))
        weights, rescale, row_max, row_sum = online_softmax(scores, factor, row_max, row_sum, MASKED)
        acc = acc * rescale[:, None]
        acc = tl.dot(weights.to(v.dtype), v, acc, input_precision="ieee")
    return acc, row_max, row_sum


@triton.jit(do_not_specialize=["num_tokens", "num_seqs"])
def block_sparse_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    counts_ptr,
    indices_ptr,
    cu_seqlens_ptr,
    num_tokens,
    num_seqs,
    heads,
    group,
    q_token_stride,
    q_head_stride,
    k_token_stride,
    k_head_stride,
    v_token_stride,
    v_head_stride,
    layout_head_stride,
    blocks,
    most,
    scale,
    CAUSAL: tl.constexpr,
    BLOCK: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    head = tl.program_id(1)
    _, start, length, first = find_tile(cu_seqlens_ptr, num_seqs, num_tokens, tl.program_id(0), BLOCK)
    if first < length:
        q_pos = first + tl.arange(0, BLOCK)
        is_query = q_pos < length
        dim_offs = tl.arange(0, BLOCK_D)
        is_dim = (dim_offs < HEAD_DIM)[None, :]
        q_tokens = (start + q_pos).to(tl.int64)
        q_ptrs = q_ptr + q_tokens[:, None] * q_token_stride + head.to(tl.int64) * q_head_stride + dim_offs[None, :]
        q = tl.load(q_ptrs, mask=is_query[:, None] & is_dim, other=0.0)
        kv_head = (head // group).to(tl.int64)
        key_offs = tl.arange(0, BLOCK_N).to(tl.int64)[:, None]
        first_token = start.to(tl.int64)
        k_ptrs = k_ptr + (first_token + key_offs) * k_token_stride + kv_head * k_head_stride + dim_offs[None, :]
        v_ptrs = v_ptr + (first_token + key_offs) * v_token_stride + kv_head * v_head_stride + dim_offs[None, :]

        query_block = first // BLOCK
        layout_row = head.to(tl.int64) * layout_head_stride + query_block
        indices_ptr += layout_row * most
        count = tl.minimum(tl.load(counts_ptr + layout_row, mask=query_block < blocks, other=0), most)
        # Blocks below `seen` hold a key for some query, those below `whole` nothing else.
        seen = tl.cdiv(length, BLOCK)
        whole = length // BLOCK
        if CAUSAL:
            seen = query_block + 1
            whole = query_block
        num_seen = 0
        num_whole = 0
        for entry in range(0, count, 128):
            entry_offs = entry + tl.arange(0, 128)
            listed = tl.load(indices_ptr + entry_offs, mask=entry_offs < count, other=2**30)
            num_seen += tl.sum(((listed >= 0) & (listed < seen)).to(tl.int32), axis=0)
            num_whole += tl.sum(((listed >= 0) & (listed < whole)).to(tl.int32), axis=0)

        factor = scale * LOG2_E
        row_max = tl.full([BLOCK], float("-inf"), tl.float32)
        row_sum = tl.zeros([BLOCK], tl.float32)
        acc = tl.zeros([BLOCK, BLOCK_D], tl.float32)
        acc, row_max, row_sum = _attend_blocks(
            q, k_ptrs, v_ptrs, k_token_stride, v_token_stride, indices_ptr, 0, num_whole, whole - 1, q_pos,
            length, is_dim, factor, acc, row_max, row_sum, CAUSAL, False, BLOCK, BLOCK_N, BLOCK_D != HEAD_DIM,
        )  # fmt: skip
        acc, row_max, row_sum = _attend_blocks(
            q, k_ptrs, v_ptrs, k_token_stride, v_token_stride, indices_ptr, num_whole, num_seen, seen - 1, q_pos,
            length, is_dim, factor, acc, row_max, row_sum, CAUSAL, True, BLOCK, BLOCK_N, BLOCK_D != HEAD_DIM,
        )  # fmt: skip

        acc = acc / tl.where(row_sum > 0, row_sum, 1.0)[:, None]
        out_ptrs = out_ptr + (q_tokens[:, None] * heads + head) * HEAD_DIM + dim_offs[None, :]
        tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=is_query[:, None] & is_dim)
