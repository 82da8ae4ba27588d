"""Where hashing puts the tokens of each text of a padded batch, and which keys each chunk of queries meets there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ridgeline_export.form.attention.softmax import in_float32

# Of a search among up to two million tokens: each step narrows it to one of so many spans.
_SPANS, _STEPS = 128, 3


@dataclass(frozen=True)
class Order:
    """All int64.

    queries:      [batch, heads, rounds, chunks · chunk], the token of each place; past the last one any
    keys:         [batch, heads, rounds, tokens], the token of each place, padding last
    query_places, key_places: [batch, heads, rounds, tokens], the place of each token
    windows:      [batch, heads, rounds, chunks], the first place of the keys that a chunk attends
    length:       [batch], tokens of each text
    """

    queries: Tensor
    keys: Tensor
    query_places: Tensor
    key_places: Tensor
    windows: Tensor
    length: Tensor
    chunk: int
    width: int
    chunks: int

    def keys_of_windows(self, number: int) -> tuple[Tensor, Tensor]:
        """Tokens of the keys in each chunk's window of a round, [batch, heads, chunks · width], and which are real."""
        ahead = torch.arange(self.width, device=self.windows.device)
        place = (self.windows[:, :, number, :, None] + ahead).flatten(2)
        token = self.keys[:, :, number].gather(2, place.clamp(max=self.keys.shape[-1] - 1))
        return token, place < self.length[:, None, None]

    def windows_of_tokens(self, number: int) -> Tensor:
        """The window of each token's chunk in a round: [batch, heads, tokens]."""
        chunk = torch.div(self.query_places[:, :, number], self.chunk, rounding_mode="floor")
        return self.windows[:, :, number].gather(2, chunk)


def order_tokens(q: Tensor, k: Tensor, is_token: Tensor, rotations: Tensor, chunk: int, width: int) -> Order:
    """Hash and order q and k, [batch, heads, tokens, head_dim]; rotations [1, rounds, head_dim, buckets / 2]."""
    tokens = q.shape[2]
    length = is_token.sum(dim=-1)
    by_length = length[:, None, None, None]
    both = _sorted(torch.cat([q, k], dim=1), is_token, rotations)
    (sorted_queries, sorted_keys), (queries, keys), (query_places, key_places) = (x.chunk(2, dim=1) for x in both)

    chunks = (tokens + chunk - 1) // chunk
    first = torch.arange(chunks, device=q.device) * chunk
    in_chunk = (by_length - first).clamp(min=0, max=chunk)
    middle = (first + torch.div(in_chunk, 2, rounding_mode="floor")).clamp(max=tokens - 1)
    pivot = sorted_queries.gather(3, middle.expand(*sorted_queries.shape[:3], chunks))
    window = (_count_below(sorted_keys, pivot) - width // 2).clamp(min=0)
    window = torch.minimum(window, (by_length - width).clamp(min=0))
    return Order(
        queries=functional.pad(queries, (0, chunks * chunk - tokens)),
        keys=keys,
        query_places=query_places,
        key_places=key_places,
        windows=window,
        length=length,
        chunk=chunk,
        width=width,
        chunks=chunks,
    )


def _sorted(x: Tensor, is_token: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort keys in ascending order, the token of each place, the place of each token: [batch, heads, rounds, tokens].

    A token's sort key is bucket · tokens + position, so that no two are alike; padding comes last.
    """
    tokens = x.shape[2]
    position = torch.arange(tokens, device=x.device)
    bucket = _buckets(x, rotations)
    bucket = torch.where(is_token[:, None, None, :], bucket, 2 * rotations.shape[-1])
    ordered, order = torch.sort(bucket * tokens + position, dim=-1)
    place = torch.zeros_like(order).scatter(3, order, position.expand(order.shape))
    return ordered, order, place


@torch.no_grad()
def _buckets(x: Tensor, rotations: Tensor) -> Tensor:
    """[batch, heads, rounds, tokens], always from fp32: training under autocast and serving hash alike.

    Rotations stand on the left, where quantizers to int8 leave weights alone.
    """
    with in_float32(x):
        projected = rotations.float().transpose(-1, -2) @ x.float()[:, :, None].transpose(-1, -2)
    return torch.cat([projected, -projected], dim=-2).argmax(dim=-2)


def _count_below(ordered: Tensor, wanted: Tensor) -> Tensor:
    """How many of each row of `ordered` [..., tokens], ascending, are below `wanted` [..., n].

    torch.searchsorted is no ONNX operator; this is a search in a few steps, whatever the length.
    """
    tokens = ordered.shape[-1]
    number = torch.arange(1, _SPANS, device=ordered.device)
    count = torch.zeros_like(wanted)
    for step in reversed(range(_STEPS)):
        further = count[..., None] + number * _SPANS**step
        value = ordered.gather(-1, further.clamp(max=tokens).flatten(-2) - 1).reshape(further.shape)
        is_below = (further <= tokens) & (value < wanted[..., None])
        count = count + is_below.sum(dim=-1) * _SPANS**step
    return count
