"""Which linears of a packed graph belong to the model's layers, and not to its embeddings or its head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ridgeline_export.packed.value_types import is_float, is_ridgeline

if TYPE_CHECKING:
    import onnx_ir

Test = Callable[["onnx_ir.Node"], bool]
# Each takes q, k and v first, and mixes values channel by channel.
ATTENTIONS = frozenset(
    {
        "PackedAttention",
        "DisentangledAttention",
        "NystromAttention",
        "LinformerAttention",
        "LshAttention",
        "LocalGlobalAttention",
    }
)


def layer_linears(graph: onnx_ir.Graph) -> list[onnx_ir.Node]:
    """The Linear nodes inside the layers, in the graph's order.

    A layer's linear leads to an attention, or to a place where the residual stream is added up. A head's leads to
    neither: nothing is added up after the last layer. An embedding's projection comes before any attention and leads
    to one only through another linear. So do not the first layer's linears beside its attention, where both are added
    to the stream at once: they meet an attention's result in that sum and no attention before it. What does not depend
    on the texts, such as projected relative positions, is computed from tables and belongs to no layer.
    """
    nodes = list(graph)
    of_texts = _after(nodes, lambda node: any(_is_token_input(value) for value in node.inputs))
    after_attention = _after(nodes, _attends)
    leading = _before(nodes, _joins)
    direct = _before(nodes, _attends, past_linears=False)
    first = [node for node in nodes if node not in after_attention or _attends(node) or _joins(node)]
    beside = _before(first, lambda node: node in after_attention and _joins(node) and not _attends(node))
    beside -= _before([node for node in first if node not in after_attention or _attends(node)], _attends)
    return [
        node
        for node in nodes
        if is_linear(node) and node in of_texts and node in (leading if node in after_attention else direct | beside)
    ]


def is_linear(node: onnx_ir.Node | None) -> bool:
    """True for a Linear whose weight is a stored [out, in] matrix."""
    if node is None or not is_ridgeline(node) or node.op_type != "Linear":
        return False
    weight = node.inputs[1]
    return weight is not None and weight.is_initializer() and weight.const_value is not None


def weight_shape(linear: onnx_ir.Node) -> tuple[int, int]:
    """[out, in] of a Linear's stored weight."""
    weight = linear.inputs[1]
    assert weight is not None and weight.const_value is not None
    rows, columns = weight.const_value.numpy().shape
    return rows, columns


def readers(value: onnx_ir.Value) -> Iterator[tuple[onnx_ir.Node, int]]:
    """Nodes that read a value, each with the input's index."""
    for use in value.uses():
        yield use.node, use.idx


def _attends(node: onnx_ir.Node) -> bool:
    return is_ridgeline(node) and node.op_type in ATTENTIONS


def _is_token_input(value: onnx_ir.Value | None) -> bool:
    return value is not None and value.is_graph_input() and value.name in ("input_ids", "token_type_ids")


def _joins(node: onnx_ir.Node) -> bool:
    """True where an attention or the residual stream takes up what the layer computed."""
    if is_ridgeline(node):
        if _attends(node):
            return True
        residual = {"AddNorm": 1, "Linear": 3, "QuantizedLinear": 5}.get(node.op_type)
        return residual is not None and len(node.inputs) > residual and node.inputs[residual] is not None
    return node.op_type == "Add" and all(is_float(value) and not _is_stored(value) for value in node.inputs)


def _is_stored(value: onnx_ir.Value | None) -> bool:
    return value is not None and (value.is_initializer() or value.const_value is not None)


def _after(nodes: list[onnx_ir.Node], starts: Test) -> set[onnx_ir.Node]:
    """Nodes that start, or read what comes from one that does."""
    found: set[onnx_ir.Node] = set()
    for node in nodes:
        if starts(node) or any(value is not None and value.producer() in found for value in node.inputs):
            found.add(node)
    return found


def _before(nodes: list[onnx_ir.Node], ends: Test, past_linears: bool = True) -> set[onnx_ir.Node]:
    """Nodes that lead to one that ends, and those that end.

    past_linears: False to stop at linears: found are those that an end reads without another linear in between
    """
    found: set[onnx_ir.Node] = set()
    for node in reversed(nodes):
        if ends(node):
            found.add(node)
            continue
        following = [reader for output in node.outputs for reader, _ in readers(output)]
        if not past_linears:
            following = [reader for reader in following if ends(reader) or not _is_stop(reader)]
        if any(reader in found for reader in following):
            found.add(node)
    return found


def _is_stop(node: onnx_ir.Node) -> bool:
    return is_ridgeline(node) and node.op_type in ("Linear", "QuantizedLinear")
