"""The dialect's approximate attentions, as `ops` has the others: real tensors are computed with, an export gets a node.

Shapes and meanings are dialect.json's. The values are the ops' plain definitions, one sequence at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from ridgeline_export.packed.ops import attend, distances, node, same_sequence

if TYPE_CHECKING:
    from torch import Tensor

    # Of one sequence's q, k and v, each [heads, tokens, head_dim], like q.
    Alone = Callable[[Tensor, Tensor, Tensor], Tensor]


def nystrom_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    conv_kernel: Tensor | None,
    *,
    scale: float,
    landmarks: int,
    iterations: int,
) -> Tensor:
    """NystromAttention: k and v have as many heads as q."""
    import torch

    if torch.compiler.is_exporting():
        inputs = (q, k, v, cu_seqlens) if conv_kernel is None else (q, k, v, cu_seqlens, conv_kernel)
        attributes = {"scale": scale, "landmarks": landmarks, "iterations": iterations}
        return node("NystromAttention", inputs, attributes, q.dtype, tuple(q.shape))

    def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length = q.shape[1]
        if length <= landmarks:
            out = torch.softmax(q @ k.mT * scale, -1) @ v
        else:
            bounds = [number * length // landmarks for number in range(landmarks + 1)]
            few_q, few_k = (
                torch.stack([x[:, start:end].mean(1) for start, end in pairwise(bounds)], 1) for x in (q, k)
            )
            summary = torch.softmax(few_q @ k.mT * scale, -1) @ v
            inverse = _pseudo_inverse(torch.softmax(few_q @ few_k.mT * scale, -1), iterations)
            out = torch.softmax(q @ few_k.mT * scale, -1) @ (inverse @ summary)
        if conv_kernel is None:
            return out
        weight = conv_kernel.expand(q.shape[0], -1)[:, None, :, None]
        padding = (conv_kernel.shape[1] // 2, 0)
        return out + torch.nn.functional.conv2d(v[None], weight, padding=padding, groups=q.shape[0])[0]

    return _by_sequence(alone, q, k, v, cu_seqlens)


def linformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    key_projection: Tensor,
    value_projection: Tensor | None,
    *,
    scale: float,
) -> Tensor:
    """LinformerAttention: k and v have as many heads as q."""
    import torch

    if torch.compiler.is_exporting():
        projections = (key_projection,) if value_projection is None else (key_projection, value_projection)
        return node(
            "LinformerAttention", (q, k, v, cu_seqlens, *projections), {"scale": scale}, q.dtype, tuple(q.shape)
        )
    of_values = key_projection if value_projection is None else value_projection

    def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        few_k, few_v = (
            projection[:, : x.shape[1]].mT @ x[:, : projection.shape[1]]
            for projection, x in ((key_projection, k), (of_values, v))
        )
        return torch.softmax(q @ few_k.mT * scale, -1) @ few_v

    return _by_sequence(alone, q, k, v, cu_seqlens)


def lsh_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, rotations: Tensor, *, scale: float, chunk: int, key_chunks: int
) -> Tensor:
    """LshAttention without causality."""
    import torch

    if torch.compiler.is_exporting():
        attributes = {"scale": scale, "chunk": chunk, "key_chunks": key_chunks}
        return node("LshAttention", (q, k, v, cu_seqlens, rotations), attributes, q.dtype, tuple(q.shape))
    group, of_head = q.shape[2] // k.shape[2], q.shape[2] // rotations.shape[0]
    k, v = (x.repeat_interleave(group, 2) for x in (k, v))
    turns = rotations.repeat_interleave(of_head, 0).transpose(0, 1)

    def codes(x: Tensor) -> Tensor:
        """[rounds, heads, tokens]: bucket, then position."""
        turned = x @ turns
        bucket = torch.cat([turned, -turned], -1).argmax(-1)
        return bucket * x.shape[1] + torch.arange(x.shape[1], device=x.device)

    def alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        length, width = q.shape[1], chunk * key_chunks
        q_code, k_code = codes(q), codes(k)
        q_sorted, k_sorted = q_code.sort(-1).values, k_code.sort(-1).values
        begin = torch.searchsorted(q_sorted, q_code) // chunk * chunk
        middle = q_sorted.gather(-1, begin + (length - begin).clamp(max=chunk) // 2)
        window = (torch.searchsorted(k_sorted, middle) - width // 2).clamp(0, max(length - width, 0))[..., None]
        place = torch.searchsorted(k_sorted, k_code)[..., None, :]
        is_seen = ((place >= window) & (place < window + width)).any(0)
        return torch.softmax((q @ k.mT * scale).masked_fill(~is_seen, float("-inf")), -1) @ v

    return _by_sequence(alone, q, k, v, cu_seqlens)


def local_global_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, *, scale: float, window: int, global_tokens: int
) -> Tensor:
    """LocalGlobalAttention."""
    import torch

    if torch.compiler.is_exporting():
        attributes = {"scale": scale, "window": window} | ({"global_tokens": global_tokens} if global_tokens else {})
        return node("LocalGlobalAttention", (q, k, v, cu_seqlens), attributes, q.dtype, tuple(q.shape))
    groups = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(groups, 2) for x in (k, v))
    scores = torch.einsum("bqhd,bkhd->hqk", q, k) * scale
    own = same_sequence(q.shape[1], cu_seqlens)
    # How many of its sequence's tokens stand before a token.
    is_global = own.tril(-1).sum(1) < global_tokens
    is_near = distances(q.shape[1], cu_seqlens).abs() <= window
    return attend(scores, own & (is_near | is_global | is_global[:, None]), v)


def _pseudo_inverse(a: Tensor, iterations: int) -> Tensor:
    import torch

    identity = torch.eye(a.shape[-1], device=a.device)
    z = a.mT / a.sum(-2).amax(-1)[..., None, None]
    for _ in range(iterations):
        product = a @ z
        z = z @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product))) / 4
    return z


def _by_sequence(alone: Alone, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """q, k, v [1, tokens, heads, head_dim] → q's shape."""
    import torch

    out = torch.zeros_like(q)
    for start, end in pairwise(cu_seqlens.tolist()):
        if end > start:
            parts = (x[0, start:end].transpose(0, 1) for x in (q, k, v))
            out[0, start:end] = alone(*parts).transpose(0, 1)
    return out
