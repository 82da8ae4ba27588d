"""Small calls of the ops whose cases are too large for a CPU to run a dozen times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ridgeline_kernels.exact_attention.disentangled import disentangled_attention
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.fused.activation import quantized_bias_activation
from ridgeline_kernels.fused.gated import quantized_gated_activation
from ridgeline_kernels.fused.rotary import rotary
from ridgeline_kernels.long_attention.block_layout import block_layout
from ridgeline_kernels.long_attention.block_sparse import block_sparse_attention
from ridgeline_kernels.long_attention.local_global import local_global_attention
from ridgeline_kernels.long_attention.lsh import lsh_attention, make_rotations
from ridgeline_kernels.packing import cu_seqlens_of

LENGTHS = (70, 0, 33)


def _heads(heads: int = 2, head_dim: int = 16) -> torch.Tensor:
    return torch.randn(sum(LENGTHS), heads, head_dim)


def _packed() -> tuple[torch.Tensor, ...]:
    return _heads(), _heads(), _heads(), cu_seqlens_of(LENGTHS)


def _lsh() -> Any:
    return lsh_attention(*_packed(), make_rotations(2, 2, 16, 4), chunk=16)


def _block_sparse() -> Any:
    kept = torch.eye(5, dtype=torch.bool)[None]
    return block_sparse_attention(*_packed(), block_layout(kept, 16))


def _rotary() -> Any:
    angles = torch.randn(sum(LENGTHS), 8)
    return rotary(_heads(4), _heads(), angles.cos(), angles.sin(), cu_seqlens=cu_seqlens_of(LENGTHS))


def _disentangled() -> Any:
    buckets = torch.arange(2 * 128 - 1, dtype=torch.int32) % 8
    terms = {name: torch.randn(sum(LENGTHS), 2, 8) for name in ("content_to_position", "position_to_content")}
    return disentangled_attention(*_packed(), buckets, **terms)


SMALL_CALLS: dict[str, Callable[[], Any]] = {
    "attention": lambda: attention(*_packed(), causal=True),
    "block_sparse_attention": _block_sparse,
    "disentangled_attention": _disentangled,
    "local_global_attention": lambda: local_global_attention(*_packed(), window=4, global_tokens=2),
    "lsh_attention": _lsh,
    "lsh_hash": _lsh,
    "lsh_order": _lsh,
    "quantized_bias_activation": lambda: quantized_bias_activation(torch.randn(5, 48), torch.randn(48)),
    "quantized_gated_activation": lambda: quantized_gated_activation(torch.randn(5, 96), activation="silu"),
    "rotary": _rotary,
}
"""Op → a call of a public function that calls it."""
