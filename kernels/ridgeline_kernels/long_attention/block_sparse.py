"""Attention to chosen blocks of keys: BigBird's, Longformer's or any other layout (Zaheer et al., 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton

from ridgeline_kernels.arguments import check_choice, check_cu_seqlens, check_range, check_tensor, shows_values
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_qkv
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.block_layout import BLOCKS, BlockLayout, block_layout, check_tile, kept_blocks
from ridgeline_kernels.long_attention.block_sparse_kernel import block_sparse_kernel
from ridgeline_kernels.long_attention.masked import masked_attention
from ridgeline_kernels.long_attention.number_arguments import checked_scale
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
    if q.dtype == torch.float64:
        return block_sparse_reference(q, k, v, cu_seqlens, counts, indices, block, causal, scale)
    out = q.new_empty(q.shape)
    tokens, heads, head_dim = q.shape
    sequences = cu_seqlens.numel() - 1
    # The kernel finds its way in the lists by their sizes.
    counts, indices = counts.contiguous(), indices.contiguous()
    launch(
        block_sparse_kernel,
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
    returns      [tokens, heads, head_dim], dtype of q; zeros for a query that attends nothing. On a GPU, where
                 cu_seqlens is not looked at, rows of tokens past its last bound are undefined

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    tokens, heads, head_dim = q.shape
    if k.shape[0] != tokens:
        raise ArgumentError(f"k has {k.shape[0]} tokens and q {tokens}; queries and keys are of the same tokens")
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, q)
    if not isinstance(layout, BlockLayout):
        raise ArgumentError(f"layout must be a BlockLayout, as block_layout makes, not {type(layout).__name__}")
    check_tensor("layout.counts", layout.counts, ("heads", "query_blocks"), dtypes=(torch.int32,), like=q)
    layout_heads, blocks = layout.counts.shape
    check_tensor("layout.indices", layout.indices, (layout_heads, blocks, "most"), dtypes=(torch.int32,), like=q)
    if layout_heads not in (1, heads):
        raise ArgumentError(f"layout is for {layout_heads} heads; it must be for 1 or {heads}")
    check_choice("layout.block", layout.block, BLOCKS)
    check_tile("layout.block", layout.block, q)
    if shows_values(cu_seqlens):
        check_range("the longest sequence", int(cu_seqlens.diff().max()), 0, layout.positions)
    scale = checked_scale(scale, head_dim)
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
