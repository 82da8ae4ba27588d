"""Reshapes and squeezes that cancel or follow each other, and ops that do nothing."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import make, replace, reshape
from ridgeline_export.packed.fuse.values import as_view, dims, operands, producer, scalar

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
# Elementwise ops of one input, which a view may cross.
_UNARY = ("Gelu", "Relu", "Sigmoid", "Tanh")


def source_of_view(value: ir.Value) -> ir.Value:
    """What a chain of views starts from; the value itself if it is no view."""
    node = value.producer()
    while node is not None and is_view(node):
        assert node.inputs[0] is not None
        value = node.inputs[0]
        node = value.producer()
    return value


def is_view(node: ir.Node) -> bool:
    """The node gives the elements of its first input, in their order."""
    return node.domain == "" and node.op_type in _VIEWS


def join_views(program: ir.Model) -> int:
    """Make a chain of views one Reshape, or none where it gives back its source.

    Sizes are taken from the shapes of values: with at most one dynamic axis each, two shapes of as many elements and
    the same static sizes at the same places are the same shape.
    """
    graph = program.graph
    joined = 0
    for node in tuple(graph):
        if not is_view(node):
            continue
        value = node.outputs[0]
        target = as_view(dims(value))
        source = source_of_view(value)
        if target is None:
            continue
        if as_view(dims(source)) == target and bypass(value, source):
            joined += 1
        elif source is not node.inputs[0]:
            new = reshape(graph, source, target)
            replace(node, [new], [value], new.outputs)
            joined += 1
    return joined


def bypass(value: ir.Value, source: ir.Value) -> bool:
    """Read the source where the value is read; False where the value is an output that the source cannot be."""
    if value.is_graph_output():
        if source.producer() is None or source.is_graph_output():
            return False
        name, value.name = value.name, None
        source.name, source.shape = name, value.shape
    value.replace_all_uses_with(source, replace_graph_outputs=True)
    return True


def drop_no_ops(program: ir.Model) -> int:
    """Take out casts to the type that a value has, and multiplications and divisions by 1."""
    dropped = 0
    for node in tuple(program.graph):
        source = _unchanged(node) if node.domain == "" else None
        if source is not None and dims(source) == dims(node.outputs[0]) is not None:
            dropped += bypass(node.outputs[0], source)
    return dropped


def _unchanged(node: ir.Node) -> ir.Value | None:
    """The input that the node gives back as it is."""
    if node.op_type == "Cast":
        source = node.inputs[0]
        return source if source is not None and source.dtype == node.outputs[0].dtype is not None else None
    if node.op_type in ("Identity", "Dropout"):
        return node.inputs[0]
    if node.op_type == "Div":
        return node.inputs[0] if _is_one(node.inputs[1]) else None
    if node.op_type == "Mul":
        for value, other in operands(node):
            if _is_one(other):
                return value
    return None


def _is_one(value: ir.Value | None) -> bool:
    """The number 1, however often and in whatever shape."""
    if value is None:
        return False
    value = source_of_view(value)
    expanded = producer(value, "Expand")
    return scalar(value if expanded is None else expanded.inputs[0]) == 1.0


def cross_views(program: ir.Model) -> int:
    """act(view of x) → view of act(x), and so for sums, so that views do not part what belongs together."""
    graph = program.graph
    crossed = 0
    for node in tuple(graph):
        if node.domain != "" or node.op_type not in (*_UNARY, "Add"):
            continue
        out = node.outputs[0]
        values = [value for value in node.inputs if value is not None]
        sources = [source_of_view(value) for value in values]
        target = as_view(dims(out))
        is_view_of_tokens = all(
            source is not value and as_view(dims(value)) == target and _is_tokens(source)
            for source, value in zip(sources, values, strict=True)
        )
        if target is None or not is_view_of_tokens or len({dims(source) for source in sources}) != 1:
            continue
        new = make(node.op_type, sources, node.attributes)
        new.outputs[0].shape, new.outputs[0].type = sources[0].shape, sources[0].type
        view = reshape(graph, new.outputs[0], target)
        replace(node, [new, view], [out], view.outputs)
        crossed += 1
    return crossed


def _is_tokens(value: ir.Value) -> bool:
    shape = dims(value)
    return shape is not None and len(shape) == 3 and shape[0] == 1
