"""SmoothQuant: move outliers of activations into the weights that follow, without changing what a graph computes.

Xiao et al. 2022, arXiv 2211.10438: with s[j] = max|X[:, j]|^alpha / max|W[:, j]|^(1 - alpha), X / s and W s have the
same product, and rows of X / s lose less to int8. 1 / s has to come from the node before X, for all who read X:

- a norm's weight and bias, when linears alone read the norm. A post-norm layer's output, as BERT's, is also the next
  residual: there is no exact fold, and an op of its own would cost a pass over the activations, so it is left alone;
- the value rows of the linear before an attention, for the linear after it: attention is linear in its values;
- the `up` rows of a gated pair, for the linear after it: the gate's activation does not see them;
- the rows of a linear with no activation or ReLU, which commutes with positive factors. GELU does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.packed.layers import layer_linears, readers, weight_shape
from ridgeline_export.packed.sources import Source, find_source
from ridgeline_export.packed.value_types import complete_dtypes

if TYPE_CHECKING:
    import onnx_ir

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Group:
    """Linears that share an input, and where its factors can go."""

    x: onnx_ir.Value
    linears: tuple[onnx_ir.Node, ...]
    source: Source


def smoothable_inputs(program: onnx_ir.Model) -> tuple[str, ...]:
    """Names of the values whose largest magnitudes `smooth` wants: inputs of linears that have an exact fold."""
    program.graph.sort()
    complete_dtypes(program.graph)
    return tuple(str(group.x.name) for group in _groups(program.graph))


def smooth(program: onnx_ir.Model, maxima: Mapping[str, Array], alpha: float = 0.5) -> int:
    """Fold SmoothQuant's factors into a fused fp32 graph in place; returns how many inputs of linears were smoothed.

    maxima: by name of a value [1, tokens, in], its largest magnitudes [in] on calibration text
    alpha:  0 leaves the difficulty with the activations, 1 moves all of it into the weights

    Raises ValueError for an alpha outside 0..1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha:g}; it must lie between 0 and 1")
    program.graph.sort()
    complete_dtypes(program.graph)
    groups = [group for group in _groups(program.graph) if group.x.name in maxima]
    for group in groups:
        # Weights as they are by now: the rows of one linear are the columns' neighbours of another.
        weights = [_array(linear.inputs[1]) for linear in group.linears]
        factors = group.source.joined(maxima[str(group.x.name)], weights, alpha)
        for linear, weight in zip(group.linears, weights, strict=True):
            group.source.store(linear, 1, weight * factors)
        group.source.divide(factors)
    return len(groups)


def _groups(graph: onnx_ir.Graph) -> Iterator[_Group]:
    linears = layer_linears(graph)
    chosen = set(linears)
    for x in dict.fromkeys(linear.inputs[0] for linear in linears):
        if x is None or x.is_graph_output():
            continue
        reading = tuple(dict.fromkeys(node for node, _ in readers(x)))
        if not all(node in chosen and index == 0 for node, index in readers(x)):
            continue
        # A weight that several nodes share, as ALBERT's layers do, would have to be stored once for each.
        if any(len(node.inputs[1].uses()) > 1 for node in reading if node.inputs[1] is not None):
            continue
        source = find_source(graph, x, weight_shape(reading[0])[1])
        if source is not None:
            yield _Group(x, reading, source)


def _array(value: onnx_ir.Value | None) -> Array:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy().astype(np.float32)
