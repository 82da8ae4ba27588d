"""The dialect's approximate attentions as calls of the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ridgeline_kernels.long_attention.linformer import linformer_attention
from ridgeline_kernels.long_attention.local_global import local_global_attention
from ridgeline_kernels.long_attention.lsh import lsh_attention
from ridgeline_kernels.long_attention.nystrom import nystrom_attention
from ridgeline_kernels.packed.graph import Node

Tensor = torch.Tensor
Run = Callable[..., Any]


def nystrom_attention_of(node: Node) -> Run:
    """NystromAttention."""
    numbers = {name: node.attributes[name] for name in ("landmarks", "iterations", "scale")}

    def run(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, conv_kernel: Tensor | None = None) -> Tensor:
        filters = None if conv_kernel is None else conv_kernel.expand(q.shape[2], -1)
        return nystrom_attention(*_tokens(q, k, v), cu_seqlens, conv_kernel=filters, **numbers).unsqueeze(0)

    return run


def linformer_attention_of(node: Node) -> Run:
    """LinformerAttention."""
    scale = node.attributes["scale"]

    def run(
        q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, of_keys: Tensor, of_values: Tensor | None = None
    ) -> Tensor:
        projections = _projection(of_keys), None if of_values is None else _projection(of_values)
        return linformer_attention(*_tokens(q, k, v), cu_seqlens, *projections, scale=scale).unsqueeze(0)

    return run


def lsh_attention_of(node: Node) -> Run:
    """LshAttention."""
    numbers = {name: node.attributes[name] for name in ("chunk", "key_chunks", "scale")}
    is_causal = bool(node.attributes["causal"])

    def run(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, rotations: Tensor) -> Tensor:
        return lsh_attention(*_tokens(q, k, v), cu_seqlens, rotations, causal=is_causal, **numbers).unsqueeze(0)

    return run


def local_global_attention_of(node: Node) -> Run:
    """LocalGlobalAttention."""
    numbers = {name: node.attributes[name] for name in ("window", "global_tokens", "scale")}
    return lambda q, k, v, cu_seqlens: local_global_attention(*_tokens(q, k, v), cu_seqlens, **numbers).unsqueeze(0)


def _tokens(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q.select(0, 0), k.select(0, 0), v.select(0, 0)


def _projection(projection: Tensor) -> Tensor:
    """[heads, max_length, rank], or [max_length, rank] where all heads share it."""
    return projection.select(0, 0) if projection.shape[0] == 1 else projection
