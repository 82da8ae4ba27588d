"""Softmax attention under a mask, on padded batches."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

# What a hidden score becomes: its weight is 0 in fp32, and fp16 still has room for it.
HIDDEN = -30_000.0


def attend(q: Tensor, k: Tensor, v: Tensor, is_seen: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """softmax(scale · q kᵀ) v over the keys that are seen.

    q [..., queries, head_dim]; k, v [..., keys, head_dim]; is_seen: bool, broadcasts to [..., queries, keys]
    dropout: share of the weights that are dropped, the rest scaled up
    """
    weights = torch.softmax(masked(q @ k.transpose(-1, -2) * scale, is_seen), dim=-1)
    if dropout:
        weights = functional.dropout(weights, dropout)
    return weights.to(v.dtype) @ v


def masked(scores: Tensor, is_seen: Tensor) -> Tensor:
    """Scores with HIDDEN in place of those that are not seen."""
    return torch.where(is_seen, scores, HIDDEN)


def in_float32(x: Tensor) -> AbstractContextManager[None]:
    """Inside it, matmuls of fp32 tensors on x's device are in fp32, also under autocast."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return nullcontext()
