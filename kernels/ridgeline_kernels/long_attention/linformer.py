"""Linformer attention over packed sequences (Wang et al., 2020): keys and values projected along the tokens.

    out = softmax(scale · q k'ᵀ) v'        k' = Eᵀ k, v' = Fᵀ v

E, F: the first `length` rows of learned matrices [max_length, rank].

A trained projection defines the attention, so every sequence goes through it, those shorter than the rank too: they get
what a model gives that pads them with zeros to max_length.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ridgeline_kernels.arguments import check_range, check_same_dtype, check_tensor, shows_values
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.long_attention.linformer_projection import project_keys_and_values
from ridgeline_kernels.long_attention.low_rank_arguments import check_attention
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.packing import spans


def linformer_attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    key_projection: torch.Tensor,
    value_projection: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """`linformer_attention` in plain PyTorch."""
    dtype = compute_dtype(q)
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    projections = (key_projection, key_projection if value_projection is None else value_projection)
    for span in spans(cu_seqlens):
        query, *rest = (x[span].to(dtype).transpose(0, 1) for x in (q, k, v))
        # [heads, rank, head_dim]
        key, value = (
            projection[..., : span.stop - span.start, :].to(dtype).transpose(-1, -2) @ x
            for projection, x in zip(projections, rest, strict=True)
        )
        weights = torch.softmax(query @ key.transpose(1, 2) * scale, dim=-1)
        out[span] = (weights @ value).transpose(0, 1).to(q.dtype)
    return out


def _linformer_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    key_projection: torch.Tensor,
    value_projection: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    if q.dtype == torch.float64:
        return linformer_attention_reference(q, k, v, cu_seqlens, key_projection, value_projection, scale)
    keys, values = project_keys_and_values(k, v, cu_seqlens, key_projection, value_projection)
    rank = key_projection.shape[-1]
    cu_seqlens_k = torch.arange(0, keys.shape[0] + 1, rank, dtype=torch.int32, device=q.device)
    return attention(q, keys, values, cu_seqlens, cu_seqlens_k=cu_seqlens_k, scale=scale)


def _shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    key_projection: torch.Tensor,
    value_projection: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    return q.new_empty(q.shape)


_op = register(
    "linformer_attention", reference=linformer_attention_reference, kernel=_linformer_attention, shapes=_shapes
)


def linformer_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    key_projection: torch.Tensor,
    value_projection: torch.Tensor | None = None,
    *,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention of every sequence to `rank` projections of its keys and values.

    q, k, v:           [tokens, heads, head_dim], fp16/bf16/fp32; head_dim at most 256; tokens and heads may be strided
    cu_seqlens:        int32 [sequences + 1]. A sequence longer than max_length is refused on the CPU; on a GPU, where
                       its length is not looked at, its keys past max_length count as zeros
    key_projection:    [max_length, rank] for all heads or [heads, max_length, rank], q's dtype
    value_projection:  the same for the values; None: the keys'
    scale:             of q·k', above 0; head_dim ** -0.5 by default
    returns            [tokens, heads, head_dim], q's dtype. On a GPU, where cu_seqlens is not looked at, rows of tokens
                       past its last bound are undefined

    Raises ArgumentError.
    """
    factor = check_attention(q, k, v, cu_seqlens, scale)
    _check_projection("key_projection", key_projection, q, cu_seqlens)
    if value_projection is not None:
        _check_projection("value_projection", value_projection, q, cu_seqlens)
        if value_projection.shape[-2:] != key_projection.shape[-2:]:
            raise ArgumentError(
                f"value_projection has shape {list(value_projection.shape)}; its max_length and rank must be those of "
                f"key_projection, {list(key_projection.shape[-2:])}"
            )
    out: torch.Tensor = _op(q, k, v, cu_seqlens, key_projection, value_projection, factor)
    return out


def _check_projection(name: str, projection: torch.Tensor, q: torch.Tensor, cu_seqlens: torch.Tensor) -> None:
    per_head = isinstance(projection, torch.Tensor) and projection.ndim == 3
    shape = (q.shape[1], "max_length", "rank") if per_head else ("max_length", "rank")
    check_tensor(name, projection, shape, like=q)
    check_same_dtype(name, projection, "q", q)
    check_range(f"{name}'s rank", projection.shape[-1], 1)
    if shows_values(cu_seqlens):
        longest = int(cu_seqlens.diff().max())
        if longest > projection.shape[-2]:
            raise ArgumentError(
                f"{name} has {projection.shape[-2]} rows and a sequence has {longest} tokens; give one row a token or "
                "shorten the sequence"
            )


def linformer_flops(lengths: Iterable[int], heads: int, head_dim: int, *, rank: int) -> int:
    """Multiply-adds × 2 of `linformer_attention` on sequences of these lengths: projections, scores, weighted sums."""
    return sum(8 * length * rank * heads * head_dim for length in lengths)
