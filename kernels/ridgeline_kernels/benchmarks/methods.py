"""The efficient attentions at the settings that are compared: what each costs and how to run it on one sequence."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ridgeline_kernels.long_attention.block_layout import BlockLayout, block_layout
from ridgeline_kernels.long_attention.block_sparse import block_sparse_attention
from ridgeline_kernels.long_attention.linformer import linformer_attention, linformer_flops
from ridgeline_kernels.long_attention.local_global import local_global_attention, local_global_flops
from ridgeline_kernels.long_attention.lsh import lsh_attention, lsh_flops, make_rotations
from ridgeline_kernels.long_attention.nystrom import nystrom_attention, nystrom_flops
from ridgeline_kernels.packing import cu_seqlens_of

CHUNK = BLOCK = 64
GLOBAL_TOKENS = 16

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Setting:
    """One method with one value of what it is turned by.

    knob:    "rank", "landmarks", "rounds", "blocks" or "window"
    attend:  q, k, v of one sequence, [tokens, heads, head_dim] → its output
    flops:   length → FLOPs of one sequence
    """

    method: str
    knob: str
    value: int
    attend: Attend
    flops: Callable[[int], int]


def settings_for(heads: int, head_dim: int) -> Iterator[Setting]:
    """Every method at a few settings, from cheap to dear.

    Linformer's projections would be learned; untrained, they are the means of equal segments. Block-sparse attention
    keeps for each block of 64 queries its own block and those whose mean key is nearest to its mean query. LSH hashes
    into as many buckets as there are chunks of 64 tokens. Local attention has 16 global tokens.
    """
    shape = (heads, head_dim)
    for rank in (16, 32, 64, 128, 256):
        flops = functools.partial(_linformer_flops, *shape, rank)
        yield Setting("Linformer", "rank", rank, functools.partial(_linformer, rank), flops)
    for landmarks in (16, 32, 64, 128):
        flops = functools.partial(_nystrom_flops, *shape, landmarks)
        yield Setting("Nyström", "landmarks", landmarks, functools.partial(_nystrom, landmarks), flops)
    for rounds in (1, 2, 4, 8):
        flops = functools.partial(_lsh_flops, *shape, rounds)
        yield Setting("LSH", "rounds", rounds, functools.partial(_lsh, rounds), flops)
    for blocks in (2, 4, 8, 16):
        flops = functools.partial(_sparse_flops, *shape, blocks)
        yield Setting("block-sparse", "blocks", blocks, functools.partial(_sparse, blocks), flops)
    for window in (32, 64, 128, 256, 512):
        flops = functools.partial(_local_flops, *shape, window)
        yield Setting("local + global", "window", window, functools.partial(_local, window), flops)


def segment_means(length: int, rank: int) -> torch.Tensor:
    """Projection to the means of `rank` equal segments: [length, rank]."""
    segment = torch.arange(length) * rank // length
    projection = torch.nn.functional.one_hot(segment, rank).float()
    return projection / projection.sum(0).clamp(min=1)


def nearest_blocks(q: torch.Tensor, k: torch.Tensor, blocks: int) -> BlockLayout:
    """For each head and block of queries, its own block of keys and those nearest by their means, `blocks` in all."""
    scores = torch.einsum("qhd,khd->hqk", _block_means(q), _block_means(k))
    scores.diagonal(dim1=1, dim2=2).fill_(float("inf"))
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept.scatter_(2, scores.topk(min(blocks, scores.shape[2]), dim=2).indices, True)
    return block_layout(kept, BLOCK)


def _block_means(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([block.mean(0) for block in x.split(BLOCK)])


def _bounds(x: torch.Tensor) -> torch.Tensor:
    return cu_seqlens_of([x.shape[0]], x.device)


def _buckets(length: int) -> int:
    return max(2, length // CHUNK // 2 * 2)


def _linformer(rank: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    projection = segment_means(q.shape[0], rank).to(q)
    return linformer_attention(q, k, v, _bounds(q), projection)


def _linformer_flops(heads: int, head_dim: int, rank: int, length: int) -> int:
    return linformer_flops([length], heads, head_dim, rank=rank)


def _nystrom(landmarks: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return nystrom_attention(q, k, v, _bounds(q), landmarks=landmarks)


def _nystrom_flops(heads: int, head_dim: int, landmarks: int, length: int) -> int:
    return nystrom_flops([length], heads, head_dim, landmarks=landmarks)


def _lsh(rounds: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rotations = make_rotations(
        k.shape[1], rounds, q.shape[2], _buckets(q.shape[0]), generator=generator, device=q.device, dtype=q.dtype
    )
    return lsh_attention(q, k, v, _bounds(q), rotations, chunk=CHUNK)


def _lsh_flops(heads: int, head_dim: int, rounds: int, length: int) -> int:
    return lsh_flops([length], heads, head_dim, rounds=rounds, buckets=_buckets(length), chunk=CHUNK)


def _sparse(blocks: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return block_sparse_attention(q, k, v, _bounds(q), nearest_blocks(q, k, blocks))


def _sparse_flops(heads: int, head_dim: int, blocks: int, length: int) -> int:
    """Of the kept blocks, and of the scores between block means by which they are chosen."""
    count = -(-length // BLOCK)
    choosing = 2 * count * count * heads * head_dim
    return choosing + 4 * heads * head_dim * length * min(blocks * BLOCK, length)


def _local(window: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return local_global_attention(q, k, v, _bounds(q), window=window, global_tokens=GLOBAL_TOKENS)


def _local_flops(heads: int, head_dim: int, window: int, length: int) -> int:
    return local_global_flops([length], heads, head_dim, window=window, global_tokens=GLOBAL_TOKENS)
