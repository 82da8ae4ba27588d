"""Heads before tokens: transpositions are moved towards the end of a graph, until two of them cancel."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import pattern

from ridgeline_export.packed.fuse.splits import split_sizes
from ridgeline_export.packed.fuse.surgery import make, replace, reshape, split, typed
from ridgeline_export.packed.fuse.values import as_view, axis_of, dims, operands, producer, scalar


def sink_transposes(program: ir.Model) -> int:
    """Split along the last axis, and products with a number, of Transpose(x) → Transpose of that of x."""
    graph = program.graph
    moved = 0
    for node in tuple(graph):
        if node.domain != "" or node.op_type not in ("Split", "Mul", "Div"):
            continue
        if node.op_type == "Split":
            moved += _sink_split(graph, node)
        else:
            moved += _sink_scaled(node)
    return moved


def keeps_last_axis(transpose: ir.Node) -> bool:
    perm = transpose.attributes["perm"].as_ints() if "perm" in transpose.attributes else ()
    return len(perm) > 0 and perm[-1] == len(perm) - 1


def _sink_split(graph: ir.Graph, node: ir.Node) -> bool:
    before = producer(node.inputs[0], "Transpose")
    source = None if before is None else before.inputs[0]
    shape, sizes = dims(source), split_sizes(node)
    if before is None or source is None or shape is None or sizes is None or not keeps_last_axis(before):
        return False
    is_undone = any(reader.op_type == "Transpose" for output in node.outputs for reader, _ in output.uses())
    if not is_undone or axis_of(node, len(shape), 0) != len(shape) - 1:
        return False
    new = split(graph, source, sizes, len(shape) - 1)
    after = []
    for output, size in zip(new.outputs, sizes, strict=True):
        typed(output, source, [*shape[:-1], size])
        after.append(make("Transpose", [output], before.attributes))
    replace(node, [new, *after], node.outputs, [transpose.outputs[0] for transpose in after])
    return True


def _sink_scaled(node: ir.Node) -> bool:
    for value, factor in operands(node)[: 1 if node.op_type == "Div" else 2]:
        before = producer(value, "Transpose")
        if before is None or before.inputs[0] is None or scalar(factor) is None or dims(value) != dims(node.outputs[0]):
            continue
        new = make(node.op_type, [before.inputs[0], factor])
        new.outputs[0].shape, new.outputs[0].type = before.inputs[0].shape, before.inputs[0].type
        after = make("Transpose", [new.outputs[0]], before.attributes)
        replace(node, [new, after], node.outputs, after.outputs)
        return True
    return False


def view_transposes(program: ir.Model) -> int:
    """A Transpose that moves axes of size 1 alone → Reshape."""
    graph = program.graph
    changed = 0
    for node in tuple(graph):
        if (node.domain, node.op_type) != ("", "Transpose") or "perm" not in node.attributes:
            continue
        shape, target = dims(node.inputs[0]), as_view(dims(node.outputs[0]))
        if shape is None or target is None or node.inputs[0] is None:
            continue
        long = [axis for axis in node.attributes["perm"].as_ints() if shape[axis] != 1]
        if long != sorted(long):
            continue
        new = reshape(graph, node.inputs[0], target)
        replace(node, [new], node.outputs, new.outputs)
        changed += 1
    return changed


def _two_transposes(op, x, inner, outer):  # type: ignore[no-untyped-def]
    return op.Transpose(op.Transpose(x, perm=inner), perm=outer)


def _one_transpose(op, x, inner, outer, **_):  # type: ignore[no-untyped-def]
    perm = [inner.as_ints()[axis] for axis in outer.as_ints()]
    return op.Identity(x) if perm == sorted(perm) else op.Transpose(x, perm=perm)


TRANSPOSES = pattern.RewriteRuleSet(
    # The inner one may have other readers: it stays for them.
    [pattern.RewriteRule(_two_transposes, _one_transpose, name="TwoTransposes", remove_nodes=False)]
)
