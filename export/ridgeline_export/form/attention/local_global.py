"""Attention to a window around each token and to a few global tokens (Longformer, Beltagy et al., 2020).

    query i sees key j if |i - j| ≤ window, or j < global_tokens, or i < global_tokens

Computed in blocks of queries, each with the blocks of keys around it: time and memory grow with tokens · window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ridgeline_export.form.attention.numbers import check_whole
from ridgeline_export.form.attention.softmax import attend, masked

# Smaller blocks see fewer keys in vain, larger ones repeat fewer keys.
_LEAST_BLOCK, _MOST_BLOCK = 16, 64


@dataclass(frozen=True)
class LocalGlobal:
    """Local and global attention of one layer; it has no tensors.

    window:        how far a token sees to each side
    global_tokens: first tokens of a text, which everything sees and which see everything
    """

    method: ClassVar[str] = "local-global"
    trained: ClassVar[tuple[str, ...]] = ()
    window: int
    global_tokens: int = 0

    def __post_init__(self) -> None:
        check_whole("window", self.window, 0)
        check_whole("global_tokens", self.global_tokens, 0)

    @property
    def exact_tokens(self) -> int:
        """Texts of so many tokens get exact attention."""
        return self.window + 1

    @property
    def block_tokens(self) -> int:
        """Tokens that are computed together."""
        return min(max(self.window, _LEAST_BLOCK), _MOST_BLOCK)

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a layer's tensors by name."""
        return {}

    def initial(self, head_dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Tensors to begin with."""
        return {}

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        is_token: Tensor,
        tensors: Mapping[str, Tensor],
        scale: float,
        dropout: float,
    ) -> Tensor:
        """q, k, v [batch, heads, tokens, head_dim]; is_token bool [batch, tokens], padding on the right → like q."""
        length = is_token.sum(dim=-1)
        firsts = self._firsts(k)
        out = self._local(q, k, v, length, firsts, scale, dropout)
        if firsts is None:
            return out
        few = attend(q.index_select(2, firsts), k, v, is_token[:, None, None, :], scale, dropout)
        position = torch.arange(q.shape[2], device=q.device)
        spread = few.index_select(2, position.clamp(max=self.global_tokens - 1))
        return torch.where((position < self.global_tokens)[:, None], spread, out)

    def _firsts(self, k: Tensor) -> Tensor | None:
        """Positions of the global tokens; the last token stands for those that a short batch does not have."""
        if not self.global_tokens:
            return None
        return torch.arange(self.global_tokens, device=k.device).clamp(max=k.shape[2] - 1)

    def _local(
        self, q: Tensor, k: Tensor, v: Tensor, length: Tensor, firsts: Tensor | None, scale: float, dropout: float
    ) -> Tensor:
        """What queries get from their windows and the global tokens, under one softmax."""
        block = self.block_tokens
        reach = (self.window + block - 1) // block
        span = (2 * reach + 1) * block
        batch, heads, tokens, head_dim = q.shape
        blocks = (tokens + block - 1) // block
        rest = blocks * block - tokens
        queries = functional.pad(q, (0, 0, 0, rest)).reshape(batch, heads, blocks, block, head_dim)
        keys, values = (_windows(x, blocks, block, reach, rest) for x in (k, v))
        into = torch.arange(block, device=q.device)
        ahead = torch.arange(span, device=q.device) - reach * block
        is_near = (into[:, None] - ahead).abs() <= self.window  # [block, span]
        position = torch.arange(blocks, device=q.device)[:, None] * block + ahead  # [blocks, span]
        is_key = (position >= self.global_tokens) & (position < length[:, None, None])
        is_seen = is_near & is_key[:, None, :, None, :]
        scores = masked(queries @ keys.transpose(-1, -2) * scale, is_seen)
        if firsts is not None:
            few_keys, few_values = (x.index_select(2, firsts)[:, :, None] for x in (k, v))
            number = torch.arange(self.global_tokens, device=q.device)
            is_first = (number < length[:, None])[:, None, None, None, :]
            scores = torch.cat([masked(queries @ few_keys.transpose(-1, -2) * scale, is_first), scores], dim=-1)
        weights = torch.softmax(scores, dim=-1)
        if dropout:
            weights = functional.dropout(weights, dropout)
        weights = weights.to(v.dtype)
        out = weights[..., self.global_tokens :] @ values
        if firsts is not None:
            out = out + weights[..., : self.global_tokens] @ few_values
        return out.reshape(batch, heads, blocks * block, head_dim)[:, :, :tokens]


def _windows(x: Tensor, blocks: int, block: int, reach: int, rest: int) -> Tensor:
    """[batch, heads, tokens, head_dim] → [batch, heads, blocks, (2 reach + 1) · block, head_dim]."""
    batch, heads, _, head_dim = x.shape
    padded = functional.pad(x, (0, 0, reach * block, reach * block + rest))
    padded = padded.reshape(batch, heads, blocks + 2 * reach, block, head_dim)
    return torch.cat([padded[:, :, first : first + blocks] for first in range(2 * reach + 1)], dim=3)
