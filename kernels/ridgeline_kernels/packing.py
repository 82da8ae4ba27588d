"""Packed sequences: laid end to end along one axis of tokens, bounded by `cu_seqlens`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch


def cu_seqlens_of(lengths: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """Bounds of sequences of the given lengths: int32 [sequences + 1], from 0 to the sum."""
    bounds = [0]
    for length in lengths:
        bounds.append(bounds[-1] + length)
    return torch.tensor(bounds, dtype=torch.int32, device=device)


def spans(cu_seqlens: torch.Tensor) -> Iterator[slice]:
    """The tokens of each sequence in turn, as slices. For references: reads `cu_seqlens` on the host."""
    bounds = cu_seqlens.tolist()
    for start, end in pairwise(bounds):
        yield slice(start, end)


def positions_of(cu_seqlens: torch.Tensor, tokens: int) -> torch.Tensor:
    """Position of each token in its sequence: int64 [tokens], on the device of `cu_seqlens`, without a host sync."""
    token = torch.arange(tokens, device=cu_seqlens.device)
    sequence = torch.searchsorted(cu_seqlens[1:], token, right=True)
    return token - cu_seqlens[sequence].long()


def sequences_of(cu_seqlens: torch.Tensor, tokens: int) -> torch.Tensor:
    """Index of the sequence of each token: int64 [tokens], on the device of `cu_seqlens`, without a host sync."""
    return torch.searchsorted(cu_seqlens[1:], torch.arange(tokens, device=cu_seqlens.device), right=True)


def max_tiles(tokens: int, sequences: int, block: int) -> int:
    """The most tiles of `block` tokens that `sequences` sequences of `tokens` tokens in all are cut into.

    Sequence i's tiles are numbered from `cu_seqlens[i] // block + i`: every sequence has room for its tiles, some
    numbers stay unused, and no length is needed on the host. `language.tiles.find_tile` is the inverse.
    """
    return tokens // block + sequences
