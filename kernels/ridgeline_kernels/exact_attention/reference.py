"""Attention over packed sequences in plain PyTorch."""

from __future__ import annotations

import torch

from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.packing import spans

_SCORES_AT_ONCE = 2**26
"""So that 16 thousand tokens fit a GPU's memory."""


def attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    cu_seqlens_k: torch.Tensor | None,
    scale: float,
    left: int,
    right: int,
    softcap: float,
    alibi_slopes: torch.Tensor | None,
    relative_bias: torch.Tensor | None,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """`attention` in plain PyTorch. left, right: the keys that a query sees around its position, -1 for all."""
    dtype = compute_dtype(q)
    group = q.shape[1] // k.shape[1]
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    cu_seqlens_k = cu_seqlens if cu_seqlens_k is None else cu_seqlens_k
    for rows, keys in zip(spans(cu_seqlens), spans(cu_seqlens_k), strict=True):
        q_len, k_len = rows.stop - rows.start, keys.stop - keys.start
        if not q_len or not k_len:
            continue
        # [heads, tokens, head_dim]
        query, key, value = (x.to(dtype).transpose(0, 1) for x in (q[rows], k[keys], v[keys]))
        key, value = (x.repeat_interleave(group, dim=0) for x in (key, value))
        step = max(_SCORES_AT_ONCE // (q.shape[1] * k_len), 1)
        for part in (slice(first, min(first + step, q_len)) for first in range(0, q_len, step)):
            scores = query[:, part] @ key.transpose(1, 2) * scale
            if softcap:
                scores = softcap * torch.tanh(scores / softcap)
            distance = distances(q_len, k_len, q.device, part)
            if alibi_slopes is not None:
                scores = scores - alibi_slopes.to(dtype)[:, None, None] * distance.abs()
            if relative_bias is not None:
                reach = relative_bias.shape[1] // 2
                scores = scores + relative_bias.to(dtype)[:, distance.clamp(-reach, reach) + reach]
            if bias is not None:
                scores = scores + bias[:, part, :k_len].to(dtype)
            weights = masked_softmax(scores, visible(distance, left, right))
            out[rows][part] = (weights @ value).transpose(0, 1).to(q.dtype)
    return out


def distances(q_len: int, k_len: int, device: torch.device, part: slice | None = None) -> torch.Tensor:
    """Key position - query position: [q_len or those in part, k_len], the last query standing at the last key."""
    q_pos = torch.arange(q_len, device=device)[part or slice(None)] + (k_len - q_len)
    return torch.arange(k_len, device=device)[None, :] - q_pos[:, None]


def visible(distance: torch.Tensor, left: int, right: int) -> torch.Tensor:
    """Which keys each query sees, by their distance: -1 is no limit."""
    mask = torch.ones_like(distance, dtype=torch.bool)
    if left >= 0:
        mask &= distance >= -left
    if right >= 0:
        mask &= distance <= right
    return mask


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the keys in `mask`; weights of 0 where there is none, or none but at -inf."""
    scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, dim=-1).masked_fill((scores == float("-inf")).all(dim=-1, keepdim=True), 0.0)
