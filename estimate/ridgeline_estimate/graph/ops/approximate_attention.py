"""Approximate attention over packed tokens: what grows with a sequence's tokens in place of their square.

Of a head with d dims and a sequence of n tokens, multiply-adds × 2:

    Nyström             m landmarks: scores 4nmd + 2m²d, values 4nmd + 2m²d, and 4 products of [m, m] in each iteration,
                        8m³; exact attention's 2n²d and 2n²d for n ≤ m        (Xiong et al., arXiv 2102.03902)
    Linformer           rank r: E^T k and scores 4nrd, F^T v and values 4nrd   (Wang et al., arXiv 2006.04768)
    LSH                 b buckets, windows of w: in each round hashes 2·d·b/2 of a query and of a key, scores and values
                        2n·min(n, w)·d each                                   (Kitaev et al., arXiv 2001.04451)
    local and global    2d for the score and 2d for the value of each pair that is seen
                                                                              (Beltagy et al., arXiv 2004.05150)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ridgeline_estimate.graph.model import Call, Value
from ridgeline_estimate.graph.ops.normalization import SOFTMAX_FLOPS
from ridgeline_estimate.graph.ops.packed_attention import sequence_lengths
from ridgeline_estimate.graph.registry import RIDGELINE, Cost, Outputs, handles, shapes

OPS = ("NystromAttention", "LinformerAttention", "LshAttention", "LocalGlobalAttention")


@dataclass(frozen=True, slots=True)
class _Work:
    """Work of all heads and sequences.

    scored, weighted: pairs of head_dim numbers that are multiplied: for scores, and for sums over values
    weights: that a softmax makes
    other_matmul_flops, other_flops: of what else is computed on the way to the scores
    """

    scored: int
    weighted: int
    weights: int
    other_matmul_flops: int = 0
    other_flops: int = 0


@handles("NystromAttention", kind="attention", domain=RIDGELINE)
def nystrom_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, filter of the convolution of v."""
    lengths, heads, head_dim = _sizes(call)
    m, iterations = int(call.attribute("landmarks")), int(call.attribute("iterations", 6))
    filters = call.optional(4)
    short = {length: count for length, count in lengths.items() if length <= m}
    tokens = sum(length * count for length, count in lengths.items() if length > m)
    long = sum(count for length, count in lengths.items() if length > m)
    exact = sum(count * length * length for length, count in short.items())
    products = exact + 2 * tokens * m + long * m * m
    work = _Work(
        scored=heads * products,
        # The convolution sums up `width` values for each token.
        weighted=heads * (products + (0 if filters is None else filters.known_shape[1] * _total(lengths))),
        weights=heads * products,
        other_matmul_flops=heads * long * iterations * 8 * m**3,
        # Means of queries and keys; differences from the multiples of I, and the quarter.
        other_flops=heads * (2 * tokens * head_dim + long * m * m * (1 + 4 * iterations)),
    )
    return _costs(call, work, head_dim)


@handles("LinformerAttention", kind="attention", domain=RIDGELINE)
def linformer_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, projection of the keys, of the values."""
    lengths, heads, head_dim = _sizes(call)
    max_length, rank = call.shape(4)[1:]
    projected = sum(min(length, max_length) * count for length, count in lengths.items()) * rank
    scored = heads * (_total(lengths) * rank + projected)
    return _costs(call, _Work(scored, scored, heads * _total(lengths) * rank), head_dim)


@handles("LshAttention", kind="attention", domain=RIDGELINE)
def lsh_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, rotations. Keys that a round meets again, or that causality hides, are computed all the same."""
    lengths, heads, head_dim = _sizes(call)
    rounds, half_buckets = call.shape(4)[1], call.shape(4)[3]
    width = int(call.attribute("chunk")) * int(call.attribute("key_chunks"))
    pairs = rounds * heads * sum(count * length * min(length, width) for length, count in lengths.items())
    hashed = rounds * (heads + call.shape(1)[2]) * _total(lengths) * half_buckets
    # Of every hash a comparison with each bucket; sorting by the codes has no floating-point operations.
    work = _Work(pairs, pairs, pairs, other_matmul_flops=2 * hashed * head_dim, other_flops=2 * hashed)
    return _costs(call, work, head_dim)


@handles("LocalGlobalAttention", kind="attention", domain=RIDGELINE)
def local_global_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds."""
    lengths, heads, head_dim = _sizes(call)
    window, first = int(call.attribute("window")), int(call.attribute("global_tokens", 0))
    pairs = heads * sum(count * _seen_pairs(length, window, first) for length, count in lengths.items())
    return _costs(call, _Work(pairs, pairs, pairs), head_dim)


@shapes(*OPS, domain=RIDGELINE)
def approximate_attention_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))]


def _seen_pairs(length: int, window: int, first: int) -> int:
    """Pairs of a query and a key that it sees: all of the first tokens with any, and near ones of the others."""
    first = min(first, length)
    local = length - first
    reach = min(window, max(local - 1, 0))
    return first * length + local * first + local * (2 * reach + 1) - reach * (reach + 1)


def _sizes(call: Call) -> tuple[Counter[int], int, int]:
    """Lengths of the sequences, heads and head_dim."""
    _, _, heads, head_dim = call.shape(0)
    return sequence_lengths(call.input(3)), heads, head_dim


def _total(lengths: Counter[int]) -> int:
    return sum(length * count for length, count in lengths.items())


def _costs(call: Call, work: _Work, head_dim: int) -> list[Cost]:
    """Scores with all that leads to them, softmax, values. What lies between stays inside of the kernels."""
    inside = Cost(dtype=call.output.format, reads=(), writes=(), weights=())
    tables = [value for index in (4, 5) if (value := call.optional(index)) is not None]
    moved = [call.input(0), call.input(1), call.input(3), *_where(tables, is_static=False)]
    # Bounds or a mask, and the scale unless it is 1.
    per_score = 1 + (call.attribute("scale", 0.0) != 1.0)
    return [
        replace(
            inside,
            step="scores",
            part="attention_scores",
            matmul_flops=float(2 * work.scored * head_dim + work.other_matmul_flops),
            other_flops=float(per_score * work.weights + work.other_flops),
            reads=list(dict.fromkeys(moved)),
            weights=_where(tables, is_static=True),
        ),
        replace(inside, step="softmax", part="softmax", other_flops=float(SOFTMAX_FLOPS * work.weights), fused=True),
        replace(
            inside,
            step="values",
            part="attention_values",
            matmul_flops=float(2 * work.weighted * head_dim),
            reads=[call.input(2)],
            writes=[call.output],
        ),
    ]


def _where(values: Sequence[Value], *, is_static: bool) -> list[Value]:
    return [value for value in values if value.is_static == is_static]
