"""Checks that Linformer and Nyström attention share."""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import check_cu_seqlens
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_qkv


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
    factor = q.shape[2] ** -0.5 if scale is None else float(scale)
    if not factor > 0:
        raise ArgumentError(f"scale is {scale}; it must be above 0")
    return factor
