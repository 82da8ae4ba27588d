"""Attention over packed tokens: sequences of any lengths lie end to end, and each sees itself alone.

A sequence of L tokens has L² scores in each head, dense over what a causal mask or a window hides: these are
Σ 2·heads·L²·head_dim FLOPs, and as many for the values. The bounds of the sequences are the workload's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ridgeline_estimate.graph.model import Call, UnknownShape, Value
from ridgeline_estimate.graph.ops.attention import ROTARY_FLOPS
from ridgeline_estimate.graph.ops.normalization import SOFTMAX_FLOPS
from ridgeline_estimate.graph.registry import RIDGELINE, Cost, Outputs, handles, shapes

_CASTS = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")
DISENTANGLED_TABLES = (5, 6)  # inputs of DisentangledAttention: scores of content with positions, and the other way
SOFTCAP_FLOPS = 3  # divide, tanh, multiply
_TERM_FLOPS = 2  # of each of them: gathered and added, as the config's count has it


@dataclass(frozen=True, slots=True)
class _Scores:
    """Sizes of an attention.

    lengths:   how many sequences have which length
    left, right: keys before and after its own that a query sees, None = all
    per_score: operations on each score beside the softmax
    """

    lengths: Counter[int]
    heads: int
    head_dim: int
    value_dim: int
    left: int | None = None
    right: int | None = None
    per_score: int = 1

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key, in all heads."""
        return self.heads * sum(count * length * length for length, count in self.lengths.items())

    @property
    def hidden_pairs(self) -> int:
        """Those that a causal mask or a window hides, and a kernel skips."""
        return self.heads * sum(
            count * (_beyond(length, self.left) + _beyond(length, self.right)) for length, count in self.lengths.items()
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """[sequences, heads, queries, keys], of the longest sequence."""
        longest = max(self.lengths, default=0)
        return self.lengths.total(), self.heads, longest, longest


def _beyond(length: int, reach: int | None) -> int:
    """Pairs in a sequence whose key lies more than `reach` positions to one side of its query."""
    far = 0 if reach is None else max(0, length - 1 - reach)
    return far * (far + 1) // 2


def sequence_lengths(bounds: Value) -> Counter[int]:
    """How many sequences have which length, empty ones aside. Raises UnknownShape when the bounds are not known."""
    while bounds.constant is None and bounds.producer is not None and bounds.producer.node.op_type in _CASTS:
        bounds = bounds.producer.input(0)
    if bounds.constant is None:
        raise UnknownShape(f"the bounds of the sequences in '{bounds.name}'")
    lengths = np.diff(bounds.constant.reshape(-1).astype(np.int64))
    return Counter(int(length) for length in lengths if length > 0)


@handles("PackedAttention", kind="attention", domain=RIDGELINE)
def packed_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, relative bias."""
    bias = call.optional(4)
    is_masked = bool(call.attribute("causal", 0))
    left, right = (_reach(call.attribute(name, -1)) for name in ("window_left", "window_right"))
    # Bounds or a mask, the scale unless it is 1, the bias, the cap: as the config's count has them.
    per_score = 1 + (call.attribute("scale", 0.0) != 1.0) + (bias is not None)
    per_score += SOFTCAP_FLOPS if call.attribute("softcap", 0.0) else 0
    scores = _scores(call, left, 0 if is_masked else right, per_score)
    return _costs(call, scores, [bias] if bias is not None else [])


@handles("DisentangledAttention", kind="attention", domain=RIDGELINE)
def disentangled_attention(call: Call) -> list[Cost]:
    """q, k, v, bounds, columns by distance, and products with the table of positions: each is gathered and added."""
    tables = [value for index in DISENTANGLED_TABLES if (value := call.optional(index)) is not None]
    scores = _scores(call, None, None, 1 + (call.attribute("scale", 0.0) != 1.0) + _TERM_FLOPS * len(tables))
    return _costs(call, scores, [call.input(4), *tables])


def _reach(window: int) -> int | None:
    return None if window < 0 else int(window)


def _scores(call: Call, left: int | None, right: int | None, per_score: int) -> _Scores:
    _, _, heads, head_dim = call.shape(0)
    return _Scores(sequence_lengths(call.input(3)), heads, head_dim, call.shape(2)[3], left, right, per_score)


def _costs(call: Call, scores: _Scores, added: Sequence[Value]) -> list[Cost]:
    """Scores, softmax, values; scores stay inside of the kernel. added: to the scores."""
    pairs, hidden = scores.pairs, scores.hidden_pairs
    inside = Cost(dtype=call.output.format, reads=(), writes=(), weights=(), shape=scores.shape)
    moved = [call.input(0), call.input(1), call.input(3), *added]
    return [
        replace(
            inside,
            step="scores",
            part="attention_scores",
            matmul_flops=2.0 * pairs * scores.head_dim,
            skipped_flops=2.0 * hidden * scores.head_dim,
            other_flops=float(pairs * scores.per_score),
            reads=list(dict.fromkeys(value for value in moved if not value.is_static)),
            weights=[value for value in added if value.is_static],
        ),
        replace(inside, step="softmax", part="softmax", other_flops=float(SOFTMAX_FLOPS * pairs), fused=True),
        replace(
            inside,
            step="values",
            part="attention_values",
            matmul_flops=2.0 * pairs * scores.value_dim,
            skipped_flops=2.0 * hidden * scores.value_dim,
            reads=[call.input(2)],
            writes=[call.output],
            shape=None,
        ),
    ]


@shapes("PackedAttention", "DisentangledAttention", domain=RIDGELINE)
def packed_attention_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, (*call.shape(0)[:-1], call.shape(2)[-1]))]


@handles("Rotary", kind="elementwise", domain=RIDGELINE)
def rotary(call: Call) -> Cost:
    """q, k, cosines, sines: the first 2·half elements of each head are rotated."""
    half = call.shape(2)[-1]
    rotated = sum(2 * half * value.elements // value.known_shape[-1] for value in (call.input(0), call.input(1)))
    return Cost(other_flops=float(ROTARY_FLOPS * rotated), part="attention_scores")


@shapes("Rotary", domain=RIDGELINE)
def rotary_shape(call: Call) -> Outputs:
    return [(call.input(index).element_type, call.shape(index)) for index in (0, 1)]
