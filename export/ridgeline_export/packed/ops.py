"""The dialect's ops that a lowered model calls: real tensors are computed with, an export gets a node.

Shapes and meanings are dialect.json's. The values are the ops' plain definitions, quadratic in the number of tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ridgeline_export.packed.dialect import dialect

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_POOLS = ("mean", "first", "last", "max")


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    relative_bias: Tensor | None,
    *,
    scale: float,
    causal: bool,
    window_left: int,
    window_right: int,
    softcap: float,
) -> Tensor:
    """PackedAttention: q [1, tokens, heads, head_dim], k and v [1, tokens, kv_heads, head_dim] → q's shape."""
    import torch

    if torch.compiler.is_exporting():
        inputs = (q, k, v, cu_seqlens) if relative_bias is None else (q, k, v, cu_seqlens, relative_bias)
        attributes: dict[str, float | int] = {"scale": scale}
        if causal:
            attributes["causal"] = 1
        if window_left >= 0:
            attributes["window_left"] = window_left
        if window_right >= 0 and not causal:
            attributes["window_right"] = window_right
        if softcap:
            attributes["softcap"] = softcap
        return node("PackedAttention", inputs, attributes, q.dtype, tuple(q.shape))
    groups = q.shape[2] // k.shape[2]
    scores = torch.einsum("bqhd,bkhd->hqk", q, k.repeat_interleave(groups, 2)) * scale
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    distance = distances(q.shape[1], cu_seqlens)
    if relative_bias is not None:
        reach = relative_bias.shape[1] // 2
        scores = scores + relative_bias[:, distance.clamp(-reach, reach) + reach]
    allowed = same_sequence(q.shape[1], cu_seqlens)
    if causal:
        allowed &= distance <= 0
    if window_left >= 0:
        allowed &= distance >= -window_left
    if window_right >= 0:
        allowed &= distance <= window_right
    return attend(scores, allowed, v.repeat_interleave(groups, 2))


def disentangled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    buckets: Tensor,
    content_to_position: Tensor | None,
    position_to_content: Tensor | None,
    *,
    scale: float,
) -> Tensor:
    """DisentangledAttention; at least one of the two terms by position must be given."""
    import torch

    if torch.compiler.is_exporting():
        terms = (content_to_position, position_to_content)
        inputs = (q, k, v, cu_seqlens, buckets, *(terms if position_to_content is not None else terms[:1]))
        return node("DisentangledAttention", inputs, {"scale": scale}, q.dtype, tuple(q.shape))
    reach = buckets.shape[0] // 2
    columns = buckets.long()[(-distances(q.shape[1], cu_seqlens)).clamp(-reach, reach) + reach]
    index = columns.expand(q.shape[2], -1, -1)
    scores = torch.einsum("bqhd,bkhd->hqk", q, k)
    if content_to_position is not None:
        scores = scores + content_to_position[0].transpose(0, 1).gather(2, index)
    if position_to_content is not None:
        by_key = position_to_content[0].transpose(0, 1).gather(2, index.transpose(1, 2))
        scores = scores + by_key.transpose(1, 2)
    return attend(scores * scale, same_sequence(q.shape[1], cu_seqlens), v)


def pool(x: Tensor, cu_seqlens: Tensor, method: str, *, normalize: bool = False) -> Tensor:
    """Pool: x [1, tokens, dim] → [sequences, dim]; method is one of mean, first, last and max here."""
    import torch

    assert method in _POOLS, method
    if torch.compiler.is_exporting():
        attributes: dict[str, str | int] = {"method": method} | ({"normalize": 1} if normalize else {})
        return node("Pool", (x, cu_seqlens), attributes, x.dtype, (cu_seqlens.shape[0] - 1, x.shape[2]))
    starts, ends = cu_seqlens[:-1].long(), cu_seqlens[1:].long()
    if method == "first":
        rows = x[0, starts]
    elif method == "last":
        rows = x[0, ends - 1]
    else:
        spans = [x[0, start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        rows = torch.stack([span.mean(0) if method == "mean" else span.amax(0) for span in spans])
    return torch.nn.functional.normalize(rows, dim=-1, eps=1e-12) if normalize else rows


def node(
    op: str, inputs: tuple[Tensor | None, ...], attributes: dict[str, Any], dtype: torch.dtype, shape: tuple[Any, ...]
) -> Tensor:
    """An op of the dialect in a graph that is being exported; absent inputs are None, the last ones left out."""
    import torch

    version = dialect().ops[op].since
    return torch.onnx.ops.symbolic(f"ridgeline::{op}", inputs, attributes, dtype=dtype, shape=shape, version=version)


def distances(tokens: int, cu_seqlens: Tensor) -> Tensor:
    """[tokens, tokens]: key's index - query's."""
    import torch

    index = torch.arange(tokens, device=cu_seqlens.device)
    return index[None, :] - index[:, None]


def same_sequence(tokens: int, cu_seqlens: Tensor) -> Tensor:
    """[tokens, tokens] bool: key and query are of one sequence."""
    import torch

    index = torch.arange(tokens, device=cu_seqlens.device)
    sequence = torch.bucketize(index, cu_seqlens[1:].long(), right=True)
    return sequence[:, None] == sequence[None, :]


def attend(scores: Tensor, allowed: Tensor, v: Tensor) -> Tensor:
    """scores [heads, tokens, tokens], allowed [tokens, tokens] bool, v [1, tokens, heads, head_dim] → v's shape."""
    import torch

    probabilities = torch.softmax(scores.masked_fill(~allowed, float("-inf")), -1)
    return torch.einsum("hqk,bkhd->bqhd", probabilities, v)
