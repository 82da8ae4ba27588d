"""Reshapes, squeezes and transpositions that cancel or follow each other."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import pattern

from ridgeline_export.packed.fuse.surgery import make, replace, reshape
from ridgeline_export.packed.fuse.values import DOMAIN, as_view, dims, is_read_once, operands, producer, scalar

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
        if as_view(dims(source)) == target and not value.is_graph_output():
            value.replace_all_uses_with(source)
            joined += 1
        elif source is not node.inputs[0]:
            new = reshape(graph, source, target)
            replace(node, [new], [value], new.outputs)
            joined += 1
    return joined


def drop_no_ops(program: ir.Model) -> int:
    """Take out casts to the type that a value has, and multiplications and divisions by 1."""
    dropped = 0
    for node in tuple(program.graph):
        if node.domain != "" or node.outputs[0].is_graph_output():
            continue
        source = _unchanged(node)
        if source is not None and dims(source) == dims(node.outputs[0]) is not None:
            node.outputs[0].replace_all_uses_with(source)
            dropped += 1
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
    """act(Reshape(x)) → Reshape(act(x)), so that the activation stands behind the linear that it belongs to."""
    graph = program.graph
    crossed = 0
    for node in tuple(graph):
        if node.domain != "" or node.op_type not in _UNARY or node.inputs[0] is None:
            continue
        value, out = node.inputs[0], node.outputs[0]
        source, target = source_of_view(value), as_view(dims(out))
        below = source.producer()
        if source is value or target is None or below is None or not is_read_once(value):
            continue
        if below.domain != DOMAIN or below.op_type != "Linear":
            continue
        new = make(node.op_type, [source], node.attributes)
        new.outputs[0].shape, new.outputs[0].type = source.shape, source.type
        view = reshape(graph, new.outputs[0], target)
        replace(node, [new, view], [out], view.outputs)
        crossed += 1
    return crossed


def _two_transposes(op, x, inner, outer):  # type: ignore[no-untyped-def]
    return op.Transpose(op.Transpose(x, perm=inner), perm=outer)


def _one_transpose(op, x, inner, outer, **_):  # type: ignore[no-untyped-def]
    perm = [inner.as_ints()[axis] for axis in outer.as_ints()]
    return op.Identity(x) if perm == sorted(perm) else op.Transpose(x, perm=perm)


TRANSPOSES = pattern.RewriteRuleSet(
    # The inner one may have other readers: it stays for them.
    [pattern.RewriteRule(_two_transposes, _one_transpose, name="TwoTransposes", remove_nodes=False)]
)
