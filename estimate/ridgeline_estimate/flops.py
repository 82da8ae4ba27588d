"""FLOPs of an encoder's forward pass, part by part.

Matmuls count 2·M·N·K, as torch.utils.flop_counter.FlopCounterMode does, with attention dense over the sequence that
runs (a window's mask skips nothing). The tests hold these terms to that counter, which sees no other operation.
Everything else is counted per element as google-research/electra's flops_computation.py does: LayerNorm 5 (sum, square
and sum, scale, bias), softmax 5 (max, subtract, exp, sum, divide), GELU 8 (its tanh form), bias and residual 1 each.
A table lookup is a copy and counts 0.

Symbols below: S tokens of a sequence, H hidden, A heads·head_dim, K kv_heads·head_dim, F ffn, E embedding_size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.shape import ModelShape

Float64Array = npt.NDArray[np.float64]

LAYER_NORM_FLOPS = 5
SOFTMAX_FLOPS = 5
GELU_FLOPS = 8
ACTIVATION_FLOPS: Mapping[str, int] = {"relu": 1, "tanh": 1, "silu": 4, "swish": 4}
ROTARY_FLOPS = 3  # two multiplications and an addition per element of q and k


@dataclass(frozen=True, slots=True)
class PartFlops:
    """FLOPs of one part of the model: those of its matmuls, and those of everything else."""

    matmul: float
    elementwise: float

    @property
    def total(self) -> float:
        return self.matmul + self.elementwise


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of a forward pass, by part."""

    parts: Mapping[str, PartFlops]

    @property
    def matmul(self) -> float:
        return sum(part.matmul for part in self.parts.values())

    @property
    def total(self) -> float:
        return sum(part.total for part in self.parts.values())


def forward_flops(shape: ModelShape, batch: int, seq: int, *, pooler: bool = False) -> Flops:
    """FLOPs of a padded batch: `batch` sequences of `seq` tokens, padding included.

    pooler: count the base class's tanh pooler too; graphs for sentence embeddings run without it
    Raises EstimateError when batch or seq is below 1.
    """
    if batch < 1 or seq < 1:
        raise EstimateError(f"a batch of {batch} sequences of {seq} tokens has no cost; both numbers start at 1")
    return ragged_forward_flops(shape, [seq] * batch, pooler=pooler)


def ragged_forward_flops(
    shape: ModelShape, lengths: Sequence[int] | npt.NDArray[np.integer], *, pooler: bool = False
) -> Flops:
    """FLOPs of sequences of those lengths without any padding; each attends to itself alone.

    lengths: [sequences] tokens of each
    Raises EstimateError when there are none, or one is below 1.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    if tokens.ndim != 1 or tokens.size == 0 or tokens.min() < 1:
        raise EstimateError("lengths is a list of token counts from 1 up, with at least one entry")
    parts = {
        name: PartFlops(float(matmul.sum()), float(elementwise.sum()))
        for name, (matmul, elementwise) in _parts(shape, tokens, pooler).items()
    }
    return Flops({**parts, "position_table": _position_table(shape)})


def forward_flops_by_length(shape: ModelShape, max_tokens: int, *, pooler: bool = False) -> Float64Array:
    """Total FLOPs of one sequence, indexed by its length: sum `table[lengths]` for a batch.

    It leaves out DeBERTa's projections of its table of relative positions: they depend on weights alone, are shared by
    the whole batch, and runtimes fold them when they load the graph.
    returns [max_tokens + 1] float64, 0 at index 0
    Raises EstimateError when max_tokens is below 1.
    """
    if max_tokens < 1:
        raise EstimateError(f"max_tokens is {max_tokens}; it should be at least 1")
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    table = np.zeros(max_tokens + 1)
    for matmul, elementwise in _parts(shape, tokens, pooler).values():
        table += matmul + elementwise
    table[0] = 0.0
    return table


Cost = tuple[Float64Array, Float64Array]


def _parts(shape: ModelShape, tokens: Float64Array, pooler: bool) -> dict[str, Cost]:
    return {
        "embeddings": _embeddings(shape, tokens),
        "projections": _projections(shape, tokens),
        "attention_scores": _attention_scores(shape, tokens),
        "softmax": _softmax(shape, tokens),
        "attention_values": _attention_values(shape, tokens),
        "feed_forward": _feed_forward(shape, tokens),
        "activations": _activations(shape, tokens),
        "layer_norm": _layer_norm(shape, tokens),
        "convolution": _convolution(shape, tokens),
        "head": _head(shape, tokens, pooler),
    }


def _embeddings(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Sum of the tables: S·E each after the first. Projection to the hidden size: 2·S·E·H."""
    added = int(shape.absolute_positions) + int(shape.type_vocab > 0)
    if not shape.embedding_projection:
        return 0.0 * tokens, tokens * added * shape.embedding_size
    matmul = 2.0 * tokens * shape.embedding_size * shape.hidden
    return matmul, tokens * (added * shape.embedding_size + shape.hidden)


def _projections(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer: q 2·S·H·A, k and v 2·S·H·K each, output 2·S·A·H; biases and the residual."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    matmul = 2.0 * tokens * shape.hidden * (2 * query + 2 * key)
    biases = (query + 2 * key + shape.hidden) if shape.linear_bias else 0
    return shape.layers * matmul, shape.layers * tokens * (biases + shape.hidden)


def _attention_scores(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer: q·kᵀ 2·S·S·A; scale and mask; rotation of q and k; a bias per relative position.

    Disentangled attention (He et al., arXiv 2006.03654, eq. 4, as transformers computes it): each term multiplies with
    the whole table of R relative positions, 2·S·R·A, then gathers, scales and adds S·S scores per head.
    """
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    scores = tokens * tokens * shape.heads
    terms = len(shape.disentangled)
    matmul = 2.0 * scores * shape.head_dim + terms * 2.0 * tokens * shape.relative_positions * query
    elementwise = scores * (2 + int(shape.position_bias) + 2 * terms)
    if shape.rotary:
        elementwise = elementwise + ROTARY_FLOPS * tokens * (query + key)
    return shape.layers * matmul, shape.layers * elementwise


def _softmax(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer and head: 5·S·S."""
    return 0.0 * tokens, SOFTMAX_FLOPS * shape.layers * shape.heads * tokens * tokens


def _attention_values(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer: probabilities · v, 2·S·S·A."""
    return 2.0 * shape.layers * tokens * tokens * shape.heads * shape.head_dim, 0.0 * tokens


def _feed_forward(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer: 2·S·H·F in (twice when gated) and 2·S·F·H out; biases and the residual."""
    inner = (2 if shape.gated else 1) * shape.ffn
    matmul = 2.0 * tokens * shape.hidden * (inner + shape.ffn)
    biases = (inner + shape.hidden) if shape.linear_bias else 0
    return shape.layers * matmul, shape.layers * tokens * (biases + shape.hidden)


def _activations(shape: ModelShape, tokens: Float64Array) -> Cost:
    """Per layer: the activation over S·F elements, and the gate's multiplication."""
    each = _activation_flops(shape.activation) + int(shape.gated)
    return 0.0 * tokens, each * shape.layers * tokens * shape.ffn


def _layer_norm(shape: ModelShape, tokens: Float64Array) -> Cost:
    """5 per element: one over the embeddings and two per layer (ModernBERT lacks its first and has a final one)."""
    widths = shape.embedding_size + 2 * shape.layers * shape.hidden + (shape.hidden if shape.conv_kernel_size else 0)
    return 0.0 * tokens, LAYER_NORM_FLOPS * tokens * widths


def _convolution(shape: ModelShape, tokens: Float64Array) -> Cost:
    """DeBERTa-v2's convolution of width k after the first layer: 2·S·H·H·k ÷ groups; bias, tanh and the residual."""
    if not shape.conv_kernel_size:
        return 0.0 * tokens, 0.0 * tokens
    matmul = 2.0 * tokens * shape.hidden * shape.hidden * shape.conv_kernel_size / shape.conv_groups
    return matmul, 3 * tokens * shape.hidden


def _head(shape: ModelShape, tokens: Float64Array, pooler: bool) -> Cost:
    """Per row (a sequence or a token): 2·H·T + activation, 2·T·outputs; the pooler is 2·H·H per sequence."""
    sequences = np.ones_like(tokens)
    if shape.head_rows == "none":
        if not (pooler and shape.has_pooler):
            return 0.0 * tokens, 0.0 * tokens
        return sequences * 2.0 * shape.hidden * shape.hidden, sequences * 2 * shape.hidden
    rows = sequences if shape.head_rows == "sequence" else tokens
    width = shape.head_transform or shape.hidden
    matmul = 2.0 * width * shape.head_outputs
    elementwise = shape.head_outputs
    if shape.head_transform:
        matmul += 2.0 * shape.hidden * width
        elementwise += width * (1 + _activation_flops(shape.activation) + LAYER_NORM_FLOPS * int(shape.head_norm))
    return rows * matmul, rows * elementwise


def _position_table(shape: ModelShape) -> PartFlops:
    """DeBERTa projects its R relative positions in every layer, once per batch: 2·R·H·A per projection."""
    query = shape.heads * shape.head_dim
    projected = shape.layers * shape.relative_projections * shape.relative_positions
    return PartFlops(2.0 * projected * shape.hidden * query, float(projected * query))


def _activation_flops(name: str) -> int:
    return ACTIVATION_FLOPS.get(name.lower(), GELU_FLOPS)
