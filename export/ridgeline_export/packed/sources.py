"""The node before an activation that can divide its channels exactly: a norm, or rows of a linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.packed.layers import ATTENTIONS, is_linear, weight_shape
from ridgeline_export.packed.value_types import is_ridgeline

if TYPE_CHECKING:
    import onnx_ir

Array = NDArray[np.float32]
# Inputs of weight and bias.
_NORMS = {"AddNorm": (2, 3), "EmbeddingLayerNorm": (6, 7), "LayerNormalization": (1, 2)}


@dataclass(frozen=True, slots=True)
class Source:
    """Where the factors of an activation [1, tokens, channels] are divided by.

    weight, bias: inputs of `node` to divide
    offset:       added to a norm's weight when it is used
    start, count: for a linear, the rows of its weight that make the channels; count None for a norm
    group, head:  query heads that share a value head, and a head's channels: shared channels have one factor
    """

    graph: onnx_ir.Graph
    node: onnx_ir.Node
    weight: int
    bias: int
    offset: float = 0.0
    start: int = 0
    count: int | None = None
    group: int = 1
    head: int = 1

    def joined(self, maxima: Array, weights: Sequence[Array], alpha: float) -> Array:
        """Factors [channels] of activations with these largest magnitudes, read by linears with these weights."""
        largest = np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0)
        sizes = [self._shared(np.asarray(array, np.float64)) for array in (maxima, largest)]
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = sizes[0] ** alpha / sizes[1] ** (1 - alpha)
        # A channel that is never on, or that nobody reads, has nothing to move.
        usable = np.isfinite(factors) & (factors > 0) & (sizes[0] > 0) & (sizes[1] > 0)
        return np.where(usable, factors, 1.0).astype(np.float32)

    def divide(self, factors: Array) -> None:
        """Divide the channels by the factors."""
        if self.count is None:
            weight = self._input(self.weight)
            if weight is None:
                weight = np.full(factors.shape, 1 - self.offset, np.float32)
            self.store(self.node, self.weight, (weight + self.offset) / factors - self.offset)
            bias = self._input(self.bias)
            if bias is not None:
                self.store(self.node, self.bias, bias / factors)
            return
        own = factors.reshape(-1, self.group, self.head)[:, 0].reshape(-1)
        for index in (self.weight, self.bias):
            array = self._input(index)
            if array is not None:
                array = array.copy()
                rows = slice(self.start, self.start + self.count)
                array[rows] /= own if array.ndim == 1 else own[:, None]
                self.store(self.node, index, array)

    def store(self, node: onnx_ir.Node, index: int, array: Array) -> None:
        """Make an array a node's input; others keep what they read."""
        import onnx_ir

        if len(node.inputs) <= index:
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        name = f"{old.name if old is not None else node.name}.smooth"
        while name in self.graph.initializers:
            name += "ed"
        tensor = onnx_ir.tensor(array.astype(np.float32), name=name)
        value = onnx_ir.Value(
            name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        node.replace_input_with(index, value)
        if old is not None and old.name is not None and old.is_initializer() and not old.uses():
            del self.graph.initializers[old.name]

    def _shared(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.group == 1:
            return sizes
        grouped = sizes.reshape(-1, self.group, self.head)
        return np.broadcast_to(grouped.max(axis=1, keepdims=True), grouped.shape).reshape(-1)

    def _input(self, index: int) -> Array | None:
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None or value.const_value is None else value.const_value.numpy().astype(np.float32)


def find_source(graph: onnx_ir.Graph, x: onnx_ir.Value, channels: int) -> Source | None:
    """The source of an activation [1, tokens, channels], or None when nothing before it can divide them exactly.

    x: read by none but those who get the factors
    """
    node = x.producer()
    if node is None:
        return None
    if node.op_type in _NORMS:
        return _norm(graph, node, x)
    if is_linear(node):
        return _linear(graph, node, 0, None, ("none", "relu"))
    if is_ridgeline(node) and node.op_type == "GatedActivation":
        return _gated(graph, node)
    return _values(graph, node, channels)


def _norm(graph: onnx_ir.Graph, node: onnx_ir.Node, x: onnx_ir.Value) -> Source | None:
    if node.outputs[0] is not x or (node.op_type == "EmbeddingLayerNorm" and not _integer(node, "normalize", 1)):
        return None
    weight, bias = _NORMS[node.op_type]
    stored = [node.inputs[index] for index in (weight, bias) if index < len(node.inputs)]
    if any(value is not None and value.const_value is None for value in stored):
        return None
    axis = _integer(node, "axis", -1)
    if node.op_type == "LayerNormalization" and axis != -1:
        return None
    offset = node.attributes["weight_offset"].as_float() if "weight_offset" in node.attributes else 0.0
    return Source(graph, node, weight, bias, offset)


def _linear(
    graph: onnx_ir.Graph, node: onnx_ir.Node | None, start: int, count: int | None, activations: tuple[str, ...]
) -> Source | None:
    """Rows of a linear that adds no residual and that nobody shares."""
    if node is None or not is_linear(node) or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return None
    activation = node.attributes["activation"].as_string() if "activation" in node.attributes else "none"
    weight = node.inputs[1]
    assert weight is not None
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if activation not in activations or len(weight.uses()) > 1 or (bias is not None and bias.const_value is None):
        return None
    return Source(graph, node, 1, 2, start=start, count=count or weight_shape(node)[0])


def _gated(graph: onnx_ir.Graph, node: onnx_ir.Node) -> Source | None:
    """The `up` half of the linear before a gated activation."""
    linear = _only_producer(node.inputs[0])
    if linear is None or not is_linear(linear):
        return None
    rows = weight_shape(linear)[0]
    return _linear(graph, linear, rows // 2 if _integer(node, "gate_first", 1) else 0, rows // 2, ("none",))


def _values(graph: onnx_ir.Graph, node: onnx_ir.Node, channels: int) -> Source | None:
    """The value rows of the linear before an attention: x is a reshaped [1, tokens, heads, head_dim]."""
    if node.op_type != "Reshape":
        return None
    attention = _only_producer(node.inputs[0])
    if attention is None or not is_ridgeline(attention) or attention.op_type not in ATTENTIONS:
        return None
    reshape = _only_producer(attention.inputs[2])
    if reshape is None or reshape.op_type != "Reshape":
        return None
    value_heads, head = _value_heads(reshape)
    flat = reshape.inputs[0]
    before = _only_producer(flat)
    start, count = 0, value_heads * head
    if before is None or not count or channels % count:
        return None
    if before.op_type == "Split":
        sizes = _split_sizes(before)
        index = next(index for index, output in enumerate(before.outputs) if output is flat)
        if sizes is None or sizes[index] != count:
            return None
        start, before = sum(sizes[:index]), _only_producer(before.inputs[0])
    elif is_linear(before) and weight_shape(before)[0] != count:
        return None
    source = _linear(graph, before, start, count, ("none",))
    if source is None:
        return None
    return Source(graph, source.node, 1, 2, start=start, count=count, group=channels // count, head=head)


def _value_heads(reshape: onnx_ir.Node) -> tuple[int, int]:
    """Heads and a head's channels that a Reshape to [1, tokens, heads, channels] gives; zeros for another one."""
    target = reshape.inputs[1]
    if target is None or target.const_value is None or target.const_value.size != 4:
        return 0, 0
    heads, head = (int(size) for size in target.const_value.numpy()[2:])
    return (heads, head) if min(heads, head) > 0 else (0, 0)


def _split_sizes(node: onnx_ir.Node) -> list[int] | None:
    """Sizes of a Split's outputs along the last of three axes, when they are stored."""
    sizes = node.inputs[1] if len(node.inputs) > 1 else None
    if _integer(node, "axis", 0) not in (-1, 2) or sizes is None or sizes.const_value is None:
        return None
    return [int(size) for size in sizes.const_value.numpy()]


def _only_producer(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """The node that makes a value which one node alone reads."""
    if value is None or value.is_graph_output() or len(value.uses()) != 1:
        return None
    return value.producer()


def _integer(node: onnx_ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
