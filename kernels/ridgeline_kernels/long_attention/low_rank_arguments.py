"""Checks that Linformer and Nyström attention share."""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import check_cu_seqlens
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_qkv
from ridgeline_kernels.long_attention.number_arguments import checked_scale


def check_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float | None
) -> float:
    """The scale, head_dim ** -0.5 by default.

    Raises ArgumentError unless q, k and v have one shape and dtype, cu_seqlens bounds them and the scale is above 0.
    """
    check_qkv(q, k, v)
    if k.shape != q.shape:
        raise ArgumentError(f"k has shape {list(k.shape)}; it must be q's, {list(q.shape)}: as many tokens and heads")
    check_cu_seqlens("cu_seqlens", cu_seqlens, q.shape[0], q)
    return checked_scale(scale, q.shape[2])
