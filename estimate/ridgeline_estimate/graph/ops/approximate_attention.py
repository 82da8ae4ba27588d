"""Approximate attention over packed tokens; the formulas are approximation.py's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ridgeline_estimate.approximation import Approximation, Linformer, LocalGlobal, Lsh, Nystrom
from ridgeline_estimate.graph.model import Call, Value
from ridgeline_estimate.graph.ops.normalization import SOFTMAX_FLOPS
from ridgeline_estimate.graph.ops.packed_attention import sequence_lengths
from ridgeline_estimate.graph.registry import RIDGELINE, Cost, Outputs, handles, shapes


@handles("NystromAttention", kind="attention", domain=RIDGELINE)
def nystrom_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, filter of the convolution of v."""
    filters = call.optional(4)
    width = None if filters is None else filters.known_shape[1]
    return _costs(call, Nystrom(int(call.attribute("landmarks")), int(call.attribute("iterations", 6)), width))


@handles("LinformerAttention", kind="attention", domain=RIDGELINE)
def linformer_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, projection of the keys, of the values."""
    _, max_length, rank = call.shape(4)
    return _costs(call, Linformer(rank, max_length))


@handles("LshAttention", kind="attention", domain=RIDGELINE)
def lsh_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, rotations. Keys that causality hides are computed all the same."""
    _, rounds, _, half_buckets = call.shape(4)
    chunk, key_chunks = int(call.attribute("chunk")), int(call.attribute("key_chunks"))
    return _costs(call, Lsh(chunk, key_chunks, 2 * half_buckets, rounds))


@handles("LocalGlobalAttention", kind="attention", domain=RIDGELINE)
def local_global_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds."""
    return _costs(call, LocalGlobal(int(call.attribute("window")), int(call.attribute("global_tokens", 0))))


@shapes("NystromAttention", "LinformerAttention", "LshAttention", "LocalGlobalAttention", domain=RIDGELINE)
def approximate_attention_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))]


def _costs(call: Call, approximation: Approximation) -> list[Cost]:
    """Scores with all that leads to them, softmax, values. What lies between stays inside of the kernels."""
    _, _, heads, head_dim = call.shape(0)
    work = [
        (count, approximation.work(length, heads, call.shape(1)[2], head_dim))
        for length, count in sequence_lengths(call.input(3)).items()
    ]
    weights = sum(count * each.weights for count, each in work)
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
            matmul_flops=sum(count * each.scores_matmul_flops for count, each in work),
            other_flops=per_score * weights + sum(count * each.other_flops for count, each in work),
            reads=list(dict.fromkeys(moved)),
            weights=_where(tables, is_static=True),
        ),
        replace(inside, step="softmax", part="softmax", other_flops=float(SOFTMAX_FLOPS * weights), fused=True),
        replace(
            inside,
            step="values",
            part="attention_values",
            matmul_flops=sum(count * each.values_matmul_flops for count, each in work),
            reads=[call.input(2)],
            writes=[call.output],
        ),
    ]


def _where(values: Sequence[Value], *, is_static: bool) -> list[Value]:
    return [value for value in values if value.is_static == is_static]
