"""Attention to chosen blocks of keys: BigBird's, Longformer's or any other layout (Zaheer et al., 2020).

One program takes a block of queries of one sequence and head and walks the list of its key blocks. The blocks that the
end of the sequence or the causal diagonal cuts are the last of the list, as it ascends: only these are masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_choice, check_cu_seqlens, check_range, check_tensor
from ridgeline_kernels.attention.arguments import check_qkv
from ridgeline_kernels.attention.softmax import LOG2_E, online_softmax
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.language.tiles import find_tile
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.block_layout import BLOCKS, BlockLayout, block_layout, check_tile, kept_blocks
from ridgeline_kernels.long_attention.masked import masked_attention
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters

__all__ = ["BlockLayout", "block_layout", "block_sparse_attention", "block_sparse_flops"]


def block_sparse_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    block: int,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    """`block_sparse_attention` in plain PyTorch, as attention under a mask; counts and indices are a BlockLayout's."""
    kept = kept_blocks(counts, indices)
    # A block more, which attends and is attended by nothing, for all positions that the layout does not cover.
    kept = torch.nn.functional.pad(kept, (0, 1, 0, 1))

    def allowed(span: slice, positions: torch.Tensor) -> torch.Tensor:
        key_positions = torch.arange(span.stop - span.start, device=q.device)
        query_block, key_block = ((at // block).clamp_max(kept.shape[1] - 1) for at in (positions, key_positions))
        mask = kept[:, query_block[:, None], key_block[None, :]]
        return mask & (key_positions[None, :] <= positions[:, None]) if causal else mask

    return masked_attention(q, k, v, cu_seqlens, scale, allowed)


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
def _block_sparse_kernel(
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


def _parameters(head_dim: int, block: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    shape_class = f"block={block} head_dim<={block_d}" if dtype.itemsize <= 2 else f"32-bit head_dim<={block_d}"
    parameters = dict(launch_parameters("block_sparse_attention", shape_class, device))
    parameters["BLOCK_N"] = min(parameters["BLOCK_N"], block)
    return {**parameters, "BLOCK": block, "HEAD_DIM": head_dim, "BLOCK_D": block_d}


def _block_sparse(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    block: int,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    out = q.new_empty(q.shape)
    tokens, heads, head_dim = q.shape
    sequences = cu_seqlens.numel() - 1
    launch(
        _block_sparse_kernel,
        (max_tiles(tokens, sequences, block) if tokens else 0, heads),
        q,
        k,
        v,
        out,
        counts,
        indices,
        cu_seqlens,
        tokens,
        sequences,
        heads,
        heads // k.shape[1],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        counts.shape[1] if counts.shape[0] > 1 else 0,
        counts.shape[1],
        indices.shape[2],
        scale,
        CAUSAL=causal,
        **_parameters(head_dim, block, q.dtype, q.device),
    )
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    counts: torch.Tensor,
    indices: torch.Tensor,
    block: int,
    causal: bool,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register("block_sparse_attention", reference=block_sparse_reference, kernel=_block_sparse, shapes=_shapes)


def block_sparse_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    layout: BlockLayout,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention to the key blocks that `layout` keeps for each block of queries; the others cost nothing.

    q:           [tokens, heads, head_dim], fp16/bf16/fp32; k and v: [tokens, kv_heads, head_dim]
    cu_seqlens:  int32 [sequences + 1]; each sequence is cut into blocks from its own first token
    layout:      from `block_layout`, by position in the sequence, for sequences of up to layout.positions tokens;
                 tokens after them attend nothing and are attended by none (on the CPU, where that is seen, an error)
    causal:      besides, a query attends no later key
    scale:       of the scores; 1 / √head_dim if None
    returns      [tokens, heads, head_dim], dtype of q; zeros for a query that attends nothing

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    tokens, heads, head_dim = q.shape
    if k.shape[0] != tokens:
        raise ArgumentError(f"k has {k.shape[0]} tokens and q {tokens}; queries and keys are of the same tokens")
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, q)
    check_tensor("layout.counts", layout.counts, ("heads", "query_blocks"), dtypes=(torch.int32,), like=q)
    layout_heads, blocks = layout.counts.shape
    check_tensor("layout.indices", layout.indices, (layout_heads, blocks, "most"), dtypes=(torch.int32,), like=q)
    if layout_heads not in (1, heads):
        raise ArgumentError(f"layout is for {layout_heads} heads; it must be for 1 or {heads}")
    check_choice("layout.block", layout.block, BLOCKS)
    check_tile("layout.block", layout.block, q)
    if cu_seqlens.device.type == "cpu":
        check_range("the longest sequence", int(cu_seqlens.diff().max()), 0, layout.positions)
    scale = head_dim**-0.5 if scale is None else scale
    if not scale > 0:
        raise ArgumentError(f"scale is {scale}; it must be above 0")
    result: torch.Tensor = _op(q, k, v, cu_seqlens, layout.counts, layout.indices, layout.block, causal, scale)
    return result


def block_sparse_flops(
    lengths: Sequence[int], heads: int, head_dim: int, layout: BlockLayout, *, causal: bool = False
) -> int:
    """Floating-point operations of `block_sparse_attention`: 4 · head_dim for each query and key that it sees."""
    kept = kept_blocks(layout.counts.cpu(), layout.indices.cpu()).long()
    first = torch.arange(kept.shape[1]) * layout.block
    pairs = 0
    for length in lengths:
        size = (length - first).clamp(0, layout.block)
        cells = size[:, None] * size[None, :]
        if causal:
            cells = cells.tril(-1) + torch.diag(size * (size + 1) // 2)
        pairs += int((kept * cells).sum())
    return 4 * head_dim * pairs * (heads // kept.shape[0])
