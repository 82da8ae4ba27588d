"""Attention to a window around each token and to a few global tokens (Longformer, Beltagy et al., 2020; BigBird-ITC).

    query i attends key j if |i - j| ≤ window, or j < global_tokens, or i < global_tokens

The rows of global queries, few with many keys, have a kernel of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import triton

from ridgeline_kernels.arguments import check_cu_seqlens
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_qkv
from ridgeline_kernels.launching import launch
from ridgeline_kernels.long_attention.global_rows import attend_global_rows
from ridgeline_kernels.long_attention.local_rows import local_global_kernel
from ridgeline_kernels.long_attention.masked import masked_attention
from ridgeline_kernels.long_attention.number_arguments import check_count, checked_scale
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import max_tiles
from ridgeline_kernels.parameters import launch_parameters

# Sums of two of these still fit an int32.
_FARTHEST = 2**29


def local_global_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    """`local_global_attention` in plain PyTorch, as attention under a mask."""

    def allowed(span: slice, positions: torch.Tensor) -> torch.Tensor:
        keys = torch.arange(span.stop - span.start, device=q.device)
        is_local = (positions[:, None] - keys[None, :]).abs() <= window
        mask = is_local | (keys < global_tokens)[None, :] | (positions < global_tokens)[:, None]
        return mask[None]

    return masked_attention(q, k, v, cu_seqlens, scale, allowed)


def _parameters(head_dim: int, dtype: torch.dtype, device: torch.device) -> Mapping[str, Any]:
    block_d = max(16, triton.next_power_of_2(head_dim))
    padded = "" if head_dim == block_d else " padded"
    shape_class = f"head_dim<={block_d}{padded}" if dtype.itemsize <= 2 else "32-bit"
    parameters = launch_parameters("local_global_attention", shape_class, device)
    return {**parameters, "HEAD_DIM": head_dim, "BLOCK_D": block_d}


def _local_global(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return local_global_reference(q, k, v, cu_seqlens, window, global_tokens, scale)
    out = q.new_empty(q.shape)
    tokens, heads, head_dim = q.shape
    sequences = cu_seqlens.numel() - 1
    if not tokens:
        return out
    parameters = _parameters(head_dim, q.dtype, q.device)
    launch(
        local_global_kernel,
        (max_tiles(tokens, sequences, parameters["BLOCK_M"]), heads),
        q,
        k,
        v,
        out,
        cu_seqlens,
        tokens,
        sequences,
        min(window, _FARTHEST),
        min(global_tokens, tokens),
        heads,
        heads // k.shape[1],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        scale,
        **parameters,
    )
    if global_tokens:
        attend_global_rows(q, k, v, cu_seqlens, min(global_tokens, tokens), scale, out)
    return out


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    window: int,
    global_tokens: int,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register("local_global_attention", reference=local_global_reference, kernel=_local_global, shapes=_shapes)


def local_global_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    *,
    window: int,
    global_tokens: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """Sliding-window attention in which the first tokens of each sequence attend all and are attended by all.

    q:              [tokens, heads, head_dim], fp16/bf16/fp32; k and v: [tokens, kv_heads, head_dim]
    cu_seqlens:     int32 [sequences + 1]
    window:         how far a token sees to each side: 2 · window + 1 keys with its own
    global_tokens:  tokens at the start of each sequence, as [CLS] or a question, that everything sees and that see
                    everything; all of a sequence that is not longer
    scale:          of the scores; 1 / √head_dim if None
    returns         [tokens, heads, head_dim], dtype of q: one softmax over all keys that a query sees. On a GPU, where
                    cu_seqlens is not looked at, rows of tokens past its last bound are undefined

    Raises ArgumentError.
    """
    check_qkv(q, k, v)
    tokens, _, head_dim = q.shape
    if k.shape[0] != tokens:
        raise ArgumentError(f"k has {k.shape[0]} tokens and q {tokens}; queries and keys are of the same tokens")
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, q)
    check_count("window", window, 0)
    check_count("global_tokens", global_tokens, 0)
    scale = checked_scale(scale, head_dim)
    result: torch.Tensor = _op(q, k, v, cu_seqlens, window, global_tokens, scale)
    return result


def local_global_flops(
    lengths: Sequence[int], heads: int, head_dim: int, *, window: int, global_tokens: int = 0
) -> int:
    """Floating-point operations of `local_global_attention`: 4 · head_dim for each query and key that it sees."""
    pairs = 0
    for length in lengths:
        first = min(global_tokens, length)
        local = length - first
        reach = min(window, max(local - 1, 0))
        pairs += first * length + first * local + local * (2 * reach + 1) - reach * (reach + 1)
    return 4 * head_dim * heads * pairs
