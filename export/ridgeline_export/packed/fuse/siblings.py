"""Linears of one input, query, key and value say, become one Linear and a Split."""

from __future__ import annotations

import onnx_ir as ir

from ridgeline_export.packed.fuse.activations import activation_of
from ridgeline_export.packed.fuse.surgery import make_ridgeline, replace, split, typed
from ridgeline_export.packed.fuse.values import DOMAIN, attribute_string, dims, input_of, last_dim
from ridgeline_export.packed.fuse.weights import Weights


def join_siblings(program: ir.Model, weights: Weights) -> int:
    """Two and more plain Linears of one input → one Linear, its weights stacked, and a Split of its columns.

    A Linear that an activation follows stays alone, since it takes the activation in.
    """
    groups: dict[ir.Value, list[ir.Node]] = {}
    for node in program.graph:
        if is_plain_linear(node) and not is_activated(node):
            assert node.inputs[0] is not None
            groups.setdefault(node.inputs[0], []).append(node)
    joined = 0
    for x, nodes in groups.items():
        # The same weights twice would be the same values twice: one Linear has to do for both.
        if len(nodes) < 2 or len({node.inputs[1] for node in nodes}) != len(nodes):
            continue
        shape = dims(x)
        sizes = [last_dim(node.outputs[0]) for node in nodes]
        if shape is None or None in sizes:
            continue
        widths = [size for size in sizes if size is not None]
        new = joined_linear(x, nodes, weights)
        cut = split(program.graph, new.outputs[0], widths, 2)
        # Before the first, since its readers may stand before the others.
        replace(nodes[0], [new, cut], [node.outputs[0] for node in nodes], cut.outputs)
        joined += 1
    return joined


def joined_linear(x: ir.Value, nodes: list[ir.Node], weights: Weights) -> ir.Node:
    """One Linear whose columns are those of the nodes, in order."""
    sizes = [last_dim(node.outputs[0]) or 0 for node in nodes]
    shape = dims(x)
    assert shape is not None and all(sizes)
    weight = weights.joined([node.inputs[1] for node in nodes], sizes)
    bias = weights.joined([input_of(node, 2) for node in nodes], sizes)
    new = make_ridgeline("Linear", [x, weight, bias])
    typed(new.outputs[0], x, [*shape[:-1], sum(sizes)])
    return new


def is_plain_linear(node: ir.Node) -> bool:
    """A Linear without activation and residual."""
    return (
        (node.domain, node.op_type) == (DOMAIN, "Linear")
        and attribute_string(node, "activation", "none") == "none"
        and input_of(node, 3) is None
    )


def is_activated(node: ir.Node) -> bool:
    """Nobody but one activation reads the Linear's result."""
    value = node.outputs[0]
    readers = {reader for reader, _ in value.uses()}
    if value.is_graph_output() or not readers:
        return False
    ends = [activation_of(reader.outputs[0]) for reader in readers]
    return any(end is not None and end[1] is value and readers == set(end[2]) for end in ends)
