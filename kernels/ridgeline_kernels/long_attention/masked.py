"""Attention under any mask over packed sequences, in plain PyTorch: what the sparse ops are held to."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ridgeline_kernels.exact_attention.reference import masked_softmax
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.packing import spans

Allowed = Callable[[slice, torch.Tensor], torch.Tensor]
"""From the tokens of a sequence and some of its query positions to a mask: bool [heads or 1, queries, keys]."""

_QUERIES = 1024


def masked_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: torch.Tensor, scale: float, allowed: Allowed
) -> torch.Tensor:
    """Softmax of scale · q·k over the keys that `allowed` lets each query see; zeros where it sees none.

    q, k, v: [tokens, heads or kv_heads, head_dim]; 1,024 queries of a sequence are computed at a time, so that the
    scores of long sequences fit in memory
    """
    dtype = compute_dtype(q)
    group = q.shape[1] // k.shape[1]
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    for span in spans(cu_seqlens):
        # [heads, tokens, head_dim]
        key, value = (x[span].to(dtype).transpose(0, 1).repeat_interleave(group, dim=0) for x in (k, v))
        length = span.stop - span.start
        for positions in torch.arange(length, device=q.device).split(_QUERIES):
            rows = positions + span.start
            scores = q[rows].to(dtype).transpose(0, 1) @ key.transpose(1, 2) * scale
            weights = masked_softmax(scores, allowed(span, positions))
            out[rows] = (weights @ value).transpose(0, 1).to(q.dtype)
    return out
