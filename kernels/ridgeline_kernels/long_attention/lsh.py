"""Attention by locality-sensitive hashing: queries attend the keys that hash like them (Reformer, Kitaev et al., 2020).

Hash queries and keys, sort each by bucket within its sequence, let each chunk of queries attend a window of keys around
its own place, for several independent hashes; a query attends the union of the keys that it met.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline_kernels.arguments import check_choice, check_cu_seqlens, check_range, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.exact_attention.arguments import check_qkv
from ridgeline_kernels.long_attention.block_layout import check_tile
from ridgeline_kernels.long_attention.lsh_chunks import lsh_chunks
from ridgeline_kernels.long_attention.lsh_hash import check_buckets, lsh_hash, make_rotations
from ridgeline_kernels.long_attention.lsh_order import lsh_order
from ridgeline_kernels.long_attention.number_arguments import check_count, checked_scale
from ridgeline_kernels.numerics import compute_dtype

__all__ = ["CHUNKS", "lsh_attention", "lsh_flops", "make_rotations"]

CHUNKS = (16, 32, 64, 128)
_MOST_CHUNKS = 16


def lsh_attention(
    q: torch.Tensor,
    k: torch.Tensor | None,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor,
    rotations: torch.Tensor,
    *,
    chunk: int = 64,
    key_chunks: int = 2,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Approximate attention at a cost that grows with the length, not with its square.

    q:           [tokens, heads, head_dim], fp16/bf16/fp32; v and k: [tokens, kv_heads, head_dim]
    k:           None for Reformer's shared queries and keys: the keys are the queries divided by their lengths, and a
                 token attends itself only when it sees nothing else
    cu_seqlens:  int32 [sequences + 1]
    rotations:   [1 or kv_heads, rounds, head_dim, buckets / 2], from `make_rotations`
    chunk:       queries that share a window of keys: 16, 32, 64 or 128; 64 and more use the tensor cores best
    key_chunks:  each query attends chunk · key_chunks keys a round, from 2 chunks to 16; a sequence that is no longer
                 than this gets exact attention
    scale:       of the scores; 1 / √head_dim if None
    returns      [tokens, heads, head_dim], dtype of q: a softmax over all keys that the query met in any round, each
                 counted once; zeros for a causal query that met none. A sequence's rows depend on nothing else.
                 On a GPU, where cu_seqlens is not looked at, rows of tokens past its last bound are undefined

    Raises ArgumentError.
    """
    shared = k is None
    if k is None:
        check_tensor("q", q, ("tokens", "heads", "head_dim"))
        k = torch.nn.functional.normalize(q.to(compute_dtype(q)), dim=-1).to(q.dtype)
    check_qkv(q, k, v)
    tokens, heads, head_dim = q.shape
    if k.shape[0] != tokens:
        raise ArgumentError(f"k has {k.shape[0]} tokens and q {tokens}; queries and keys are of the same tokens")
    check_cu_seqlens("cu_seqlens", cu_seqlens, tokens, q)
    check_tensor("rotations", rotations, ("heads", "rounds", head_dim, "buckets / 2"), like=q)
    if rotations.shape[0] not in (1, k.shape[1]):
        raise ArgumentError(f"rotations is for {rotations.shape[0]} heads; it must be for 1 or {k.shape[1]}")
    check_range("rotations' rounds", rotations.shape[1], 1)
    check_buckets(2 * rotations.shape[3])
    check_choice("chunk", chunk, CHUNKS)
    check_count("key_chunks", key_chunks, 2, _MOST_CHUNKS)
    scale = checked_scale(scale, head_dim)
    check_tile("chunk", chunk, q)
    width = chunk * key_chunks
    buckets = lsh_hash(q, None if shared else k, rotations.to(q.dtype).contiguous())
    num_buckets = 2 * rotations.shape[3]
    order, place, window = lsh_order(buckets, cu_seqlens, heads, num_buckets, chunk, width, causal)
    result: torch.Tensor = lsh_chunks(q, k, v, cu_seqlens, order, place, window, scale, chunk, width, causal, shared)
    return result


def lsh_flops(
    lengths: Sequence[int],
    heads: int,
    head_dim: int,
    *,
    rounds: int,
    buckets: int,
    chunk: int = 64,
    key_chunks: int = 2,
    kv_heads: int | None = None,
) -> int:
    """Floating-point operations of `lsh_attention`: hashing (without sorting, which has none) and attention.

    kv_heads: heads whose keys are hashed; those of the queries if None, 0 for shared queries and keys

    Keys that a mask or another round takes out of a window are counted: they are computed.
    """
    hashed_heads = heads + (heads if kv_heads is None else kv_heads)
    hashing = hashed_heads * sum(lengths) * head_dim * buckets
    attention = heads * sum(4 * length * min(length, chunk * key_chunks) * head_dim for length in lengths)
    return rounds * (hashing + attention)
