"""Checks of the arguments of attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline_kernels.arguments import check_cu_seqlens, check_range, check_same_dtype, check_tensor, shows_values
from ridgeline_kernels.errors import ArgumentError

MAX_HEAD_DIM = 256
UNLIMITED = -1
SMALLEST_FACTOR = 1e-30
"""Of what multiplies or divides scores: its products with what else does are not 0 in fp32."""
# Sums of two of these still fit an int32.
_FARTHEST = 2**29


def check_qkv(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Raise ArgumentError unless q is [tokens, heads, head_dim] and k and v fit it."""
    check_tensor("q", q, ("tokens", "heads", "head_dim"))
    heads, head_dim = q.shape[1:]
    check_range("q's head_dim", head_dim, 1, MAX_HEAD_DIM)
    check_range("q's number of heads", heads, 1)
    check_tensor("k", k, ("tokens_k", "kv_heads", head_dim), like=q)
    check_tensor("v", v, (k.shape[0], k.shape[1], head_dim), like=q)
    check_same_dtype("k", k, "q", q)
    check_same_dtype("v", v, "q", q)
    if k.shape[1] == 0 or heads % k.shape[1]:
        raise ArgumentError(f"q has {heads} heads; that must be a multiple of the {k.shape[1]} heads of k and v")


def check_bounds(q: torch.Tensor, k: torch.Tensor, cu_seqlens: torch.Tensor, cu_seqlens_k: torch.Tensor | None) -> None:
    """Raise ArgumentError unless `cu_seqlens` bounds the queries and `cu_seqlens_k`, or the same, the keys."""
    check_cu_seqlens("cu_seqlens", cu_seqlens, q.shape[0], q)
    if cu_seqlens_k is None:
        if k.shape[0] != q.shape[0]:
            raise ArgumentError(f"k has {k.shape[0]} tokens and q {q.shape[0]}; give cu_seqlens_k if they differ")
        return
    check_cu_seqlens("cu_seqlens_k", cu_seqlens_k, k.shape[0], q)
    if cu_seqlens_k.shape != cu_seqlens.shape:
        raise ArgumentError(
            f"cu_seqlens_k has {cu_seqlens_k.numel()} elements; it must have the {cu_seqlens.numel()} of cu_seqlens"
        )


def check_biases(
    q: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_k: torch.Tensor | None,
    alibi_slopes: torch.Tensor | None,
    relative_bias: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> None:
    """Raise ArgumentError unless the biases that there are fit the heads and, as far as is known, the lengths."""
    heads = q.shape[1]
    if alibi_slopes is not None:
        check_tensor("alibi_slopes", alibi_slopes, (heads,), like=q)
    if relative_bias is not None:
        check_tensor("relative_bias", relative_bias, (heads, "2 * reach + 1"), like=q)
        if relative_bias.shape[1] % 2 == 0:
            raise ArgumentError(
                f"relative_bias has {relative_bias.shape[1]} columns; it needs an odd number: from -reach to reach"
            )
    if bias is None:
        return
    check_tensor("bias", bias, ("heads", "max_q", "max_k"), like=q)
    if bias.shape[0] not in (1, heads):
        raise ArgumentError(f"bias has {bias.shape[0]} heads; it must have 1 or {heads}")
    if shows_values(cu_seqlens):
        for name, bounds, size in (("q", cu_seqlens, bias.shape[1]), ("k", cu_seqlens_k, bias.shape[2])):
            longest = int((cu_seqlens if bounds is None else bounds).diff().max())
            if longest > size:
                raise ArgumentError(f"bias covers {size} positions of {name}; the longest sequence has {longest}")


def check_scale(scale: float) -> None:
    """Raise ArgumentError unless `scale` is above 0, in fp32 too."""
    if not scale > 0:
        raise ArgumentError(f"scale is {scale}; it must be above 0")
    check_range("scale", scale, SMALLEST_FACTOR, 1 / SMALLEST_FACTOR)


def check_softcap(softcap: float) -> None:
    """Raise ArgumentError unless `softcap` is 0, or above it in fp32 too."""
    check_range("softcap", softcap, 0.0)
    if softcap:
        check_range("softcap, if not 0,", softcap, SMALLEST_FACTOR, 1 / SMALLEST_FACTOR)


def window_sides(window: tuple[int, int] | None, causal: bool) -> tuple[int, int]:
    """How many keys a query sees to its left and right, -1 for all; a causal query sees none to its right.

    Raises ArgumentError.
    """
    if window is None:
        return UNLIMITED, 0 if causal else UNLIMITED
    is_pair = isinstance(window, Sequence) and len(window) == 2
    if not is_pair or not all(isinstance(side, int | torch.SymInt) for side in window):
        raise ArgumentError(f"window is {window!r}; it must be a pair of integers: (left, right), -1 for all")
    left, right = window
    check_range("window's left", left, UNLIMITED)
    check_range("window's right", right, UNLIMITED)
    return min(left, _FARTHEST), 0 if causal else min(right, _FARTHEST)
