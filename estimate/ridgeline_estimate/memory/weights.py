"""Bytes of a model's weights: exact, those that layers or tables share once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from ridgeline_estimate.architecture import Architecture, Layer
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.op import Op
from ridgeline_estimate.precision import DTYPE_BYTES, PRECISIONS, Precision
from ridgeline_estimate.workload import Workload

# As ONNX Runtime's int8 quantization per channel and its MatMulNBits hold them.
_GROUP = 32
_SCALED_BY_CHANNEL = frozenset({"int8"})
_SCALED_BY_GROUP = frozenset({"int4"})


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights by what they are.

    matrices: of matmuls, convolutions and experts; elements
    tables:   of words, positions and token types; elements. A head that is tied to the word table has no matrix
    vectors:  norms, biases and biases of positions; elements, in the format of activations
    channels: output columns of the matrices
    """

    matrices: int
    tables: int
    vectors: int
    channels: int

    @property
    def elements(self) -> int:
        """All weights."""
        return self.matrices + self.tables + self.vectors

    def by_kind(self, precision: Precision) -> Mapping[str, int]:
        """Bytes of matrices, tables, vectors, and of the scales that quantized matrices need."""
        return {
            "matrices": ceil(self.matrices * DTYPE_BYTES[precision.weights]),
            "tables": ceil(self.tables * DTYPE_BYTES[precision.tables]),
            "vectors": ceil(self.vectors * DTYPE_BYTES[precision.activations]),
            "scales": ceil(self._scales(precision) * DTYPE_BYTES[precision.activations]),
        }

    def by_dtype(self, precision: Precision) -> Mapping[str, int]:
        """Bytes in each number format."""
        kinds = self.by_kind(precision)
        formats = {
            "matrices": precision.weights,
            "tables": precision.tables,
            "vectors": precision.activations,
            "scales": precision.activations,
        }
        totals: dict[str, int] = {}
        for kind, amount in kinds.items():
            if amount:
                totals[formats[kind]] = totals.get(formats[kind], 0) + amount
        return totals

    def _scales(self, precision: Precision) -> int:
        """One for each column in int8, one for each group of a column in int4; fp8 has one for each matrix: none."""
        if precision.weights in _SCALED_BY_CHANNEL:
            return self.channels
        return ceil(self.matrices / _GROUP) if precision.weights in _SCALED_BY_GROUP else 0


def count_weights(architecture: Architecture) -> Weights:
    """The weights of a model."""
    ops = model_ops(architecture, Workload(seq=1), PRECISIONS["fp32"])
    experts = max(
        (layer.feed_forward.experts for layer in _layers(architecture) if layer.feed_forward is not None), default=1
    )
    tables = sum(op.parameters - op.vectors for op in ops if _is_table(op))
    vectors = sum(op.vectors for op in ops)
    # What is held but does not run (cross attention without an encoder) has no output.
    channels = sum(
        op.output[-1] * (experts if ".experts." in op.name else 1)
        for op in ops
        if op.parameters > op.vectors and op.output and not _is_table(op)
    )
    return Weights(sum(op.parameters for op in ops) - tables - vectors, tables, vectors, channels)


def _layers(architecture: Architecture) -> Iterator[Layer]:
    return (layer for stack in architecture.stacks for layer in stack.layers)


def _is_table(op: Op) -> bool:
    return op.part == "embeddings" and not op.matmul_flops
