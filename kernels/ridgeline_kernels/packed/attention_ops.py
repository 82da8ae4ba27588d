"""The dialect's ops that know sequences and positions as calls of the kernels: attention and rotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ridgeline_kernels.exact_attention.disentangled import disentangled_attention
from ridgeline_kernels.exact_attention.packed import attention
from ridgeline_kernels.fused.rotary import rotary
from ridgeline_kernels.packed.graph import Node

Tensor = torch.Tensor
Run = Callable[..., Any]


def attention_of(node: Node) -> Run:
    """PackedAttention."""
    scale, softcap = node.attributes["scale"], node.attributes["softcap"]
    is_causal = bool(node.attributes["causal"])
    sides = (node.attributes["window_left"], node.attributes["window_right"])
    window = None if sides == (-1, -1) else sides

    def run(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, relative_bias: Tensor | None = None) -> Tensor:
        return attention(
            q.select(0, 0),
            k.select(0, 0),
            v.select(0, 0),
            cu_seqlens,
            scale=scale,
            causal=is_causal,
            window=window,
            softcap=softcap,
            relative_bias=relative_bias,
        ).unsqueeze(0)

    return run


def disentangled_attention_of(node: Node) -> Run:
    """DisentangledAttention."""
    scale = node.attributes["scale"]

    def run(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens: Tensor,
        buckets: Tensor,
        by_query: Tensor | None = None,
        by_key: Tensor | None = None,
    ) -> Tensor:
        if by_query is None and by_key is None:
            return attention(q.select(0, 0), k.select(0, 0), v.select(0, 0), cu_seqlens, scale=scale).unsqueeze(0)
        return disentangled_attention(
            q.select(0, 0),
            k.select(0, 0),
            v.select(0, 0),
            cu_seqlens,
            buckets,
            content_to_position=None if by_query is None else by_query.select(0, 0),
            position_to_content=None if by_key is None else by_key.select(0, 0),
            scale=scale,
        ).unsqueeze(0)

    return run


def row_numbers_of(node: Node) -> Run:
    """RowNumbers, the executor's own: 0, 1, … of the rows of [1, tokens, half]."""
    return lambda x: torch.arange(x.shape[-2], dtype=torch.int32, device=x.device)


def rotary_of(node: Node) -> Run:
    """Rotary, with the numbers of the tokens' rows as its last operand: `fusing` gives them, once for all nodes.

    They are counted here where it does not: of constants, before anything is joined.
    """
    is_interleaved = bool(node.attributes["interleaved"])

    number = row_numbers_of(node)

    def run(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, row_numbers: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # A token's angles are the row of its own number: the tables have been looked up already.
        turned = rotary(
            q.select(0, 0),
            k.select(0, 0),
            cos.select(0, 0),
            sin.select(0, 0),
            position_ids=number(cos) if row_numbers is None else row_numbers,
            interleaved=is_interleaved,
        )
        return turned[0].unsqueeze(0), turned[1].unsqueeze(0)

    return run
