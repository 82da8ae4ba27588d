"""Attention by locality-sensitive hashing: queries attend the keys that hash like them (Reformer, Kitaev et al., 2020).

    bucket(x) = argmax [xR; -xR]        for random rotations R [head_dim, buckets / 2] of each round

In each round the queries and the keys of a text are ordered by (bucket, position). Each chunk of queries attends a
window of keys around the place that its middle query's bucket has among the keys. A query attends the keys that it met
in any round, each counted once; a text that is no longer than a window gets exact attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ridgeline_export.errors import ModelError
from ridgeline_export.form.attention.lsh_order import Order, order_tokens
from ridgeline_export.form.attention.numbers import check_choice, check_whole
from ridgeline_export.form.attention.softmax import masked

CHUNKS = (16, 32, 64, 128)
MOST_CHUNKS = 16
MAX_BUCKETS = 1024


@dataclass(frozen=True)
class Lsh:
    """Hashed attention of one layer.

    chunk:      queries that share a window of keys
    key_chunks: chunks of keys in a window
    buckets:    of a round, even; about the longest text's tokens divided by the chunk makes them as large as chunks
    rounds:     independent hashes
    Tensors: `rotations` [1, rounds, head_dim, buckets / 2], for all heads
    """

    method: ClassVar[str] = "lsh"
    trained: ClassVar[tuple[str, ...]] = ()
    chunk: int = 64
    key_chunks: int = 2
    buckets: int = 64
    rounds: int = 2

    def __post_init__(self) -> None:
        check_choice("chunk", self.chunk, CHUNKS)
        check_whole("key_chunks", self.key_chunks, 2, MOST_CHUNKS)
        check_whole("buckets", self.buckets, 2, MAX_BUCKETS)
        check_whole("rounds", self.rounds, 1)
        if self.buckets % 2:
            raise ModelError(f"the attention's buckets are {self.buckets}, which is odd: compress the model again")

    @property
    def width(self) -> int:
        """Keys of a window."""
        return self.chunk * self.key_chunks

    @property
    def exact_tokens(self) -> int:
        """Texts of so many tokens get exact attention."""
        return self.width

    @property
    def block_tokens(self) -> int:
        """Tokens that are computed together."""
        return self.chunk

    def shapes(self, head_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a layer's tensors by name."""
        return {"rotations": (1, self.rounds, head_dim, self.buckets // 2)}

    def initial(self, head_dim: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Random rotations, the same for the same generator."""
        return {name: torch.randn(shape, generator=generator) for name, shape in self.shapes(head_dim).items()}

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
        order = order_tokens(q, k, is_token, tensors["rotations"], self.chunk, self.width)
        met = [self._round(q, k, v, order, number, scale, dropout) for number in range(self.rounds)]
        outs, sums = [out for out, _ in met], [total for _, total in met]
        if self.rounds == 1:
            return outs[0]
        shares = torch.softmax(torch.stack(sums), dim=0).to(v.dtype)
        return (shares[..., None] * torch.stack(outs)).sum(dim=0)

    def _round(
        self, q: Tensor, k: Tensor, v: Tensor, order: Order, number: int, scale: float, dropout: float
    ) -> tuple[Tensor, Tensor]:
        """What queries get from the keys that they meet first in this round, and the logarithm of their weights' sum.

        [batch, heads, tokens, head_dim] and [batch, heads, tokens]
        """
        batch, heads, _, head_dim = q.shape
        chunks = order.chunks
        at_queries = order.queries[:, :, number]  # tokens of each chunk: [batch, heads, chunks · chunk]
        at_keys, is_key = order.keys_of_windows(number)  # [batch, heads, chunks · width]
        queries = rows(q, at_queries).reshape(batch, heads, chunks, self.chunk, head_dim)
        keys, values = (rows(x, at_keys).reshape(batch, heads, chunks, self.width, head_dim) for x in (k, v))
        is_seen = is_key.reshape(batch, heads, chunks, 1, self.width)
        for earlier in range(number):
            first = order.windows_of_tokens(earlier).gather(2, at_queries).reshape(batch, heads, chunks, self.chunk, 1)
            place = order.key_places[:, :, earlier].gather(2, at_keys).reshape(batch, heads, chunks, 1, self.width)
            is_seen = is_seen & ~((place >= first) & (place < first + self.width))
        scores = masked((queries @ keys.transpose(-1, -2) * scale).float(), is_seen)
        weights = torch.softmax(scores, dim=-1)
        # log Σ exp(scores), by the key that weighs most: its weight is never near 0, also in fp16.
        total = scores.amax(dim=-1) - torch.log(weights.amax(dim=-1))
        if dropout:
            weights = functional.dropout(weights, dropout)
        out = (weights.to(v.dtype) @ values).reshape(batch, heads, chunks * self.chunk, head_dim)
        places = order.query_places[:, :, number]
        return rows(out, places), total.reshape(batch, heads, chunks * self.chunk).gather(2, places)


def rows(x: Tensor, index: Tensor) -> Tensor:
    """x [batch, heads, tokens, head_dim] at index [batch, heads, n] → [batch, heads, n, head_dim], by whole rows."""
    batch, heads, tokens, head_dim = x.shape
    first = torch.arange(batch * heads, device=x.device).reshape(batch, heads, 1) * tokens
    flat = x.reshape(batch * heads * tokens, head_dim).index_select(0, (index + first).reshape(-1))
    return flat.reshape(batch, heads, index.shape[2], head_dim)
