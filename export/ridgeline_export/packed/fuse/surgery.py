"""Nodes put into a graph in place of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import convenience

from ridgeline_export.packed.fuse.values import DOMAIN


def make(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    domain: str = "",
    num_outputs: int = 1,
) -> ir.Node:
    """A node that is in no graph yet; absent inputs at the end are left out."""
    present = list(inputs)
    while present and present[-1] is None:
        present.pop()
    return ir.node(op_type, present, dict(attributes or {}), domain=domain, num_outputs=num_outputs)


def make_ridgeline(
    op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None, num_outputs: int = 1
) -> ir.Node:
    """A node of the dialect."""
    return make(op_type, inputs, attributes, domain=DOMAIN, num_outputs=num_outputs)


def typed(value: ir.Value, like: ir.Value, shape: Sequence[int | str | None]) -> ir.Value:
    """Give a new value its shape, and the element type of another."""
    value.shape = ir.Shape(shape)
    value.type = like.type
    return value


def replace(
    after: ir.Node, new_nodes: Sequence[ir.Node], old_values: Sequence[ir.Value], new_values: Sequence[ir.Value]
) -> None:
    """Put `new_nodes` behind the node `after`, and `new_values` where `old_values` are read.

    The new values take over names, types and shapes, also as graph outputs. Old nodes stay, to be swept when nobody
    reads them.
    """
    graph = after.graph
    assert graph is not None
    convenience.replace_nodes_and_values(graph, after, [], new_nodes, old_values, new_values)
    for old in old_values:
        # Two values of one name: the old one waits for the sweep.
        old.name = None


def integers_constant(graph: ir.Graph, numbers: Sequence[int]) -> ir.Value:
    """An int64 initializer, named by what it holds and shared by all who need it."""
    name = "ints_" + "_".join(str(number).replace("-", "m") for number in numbers)
    known = graph.initializers.get(name)
    if known is not None:
        return known
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.val(name, ir.DataType.INT64, [len(numbers)], const_value=tensor)
    graph.register_initializer(value)
    return value


def reshape(graph: ir.Graph, value: ir.Value, target: Sequence[int]) -> ir.Node:
    """A Reshape node to a target without zeros, at most one of it -1."""
    return make("Reshape", [value, integers_constant(graph, target)])


def split(graph: ir.Graph, value: ir.Value, sizes: Sequence[int], axis: int) -> ir.Node:
    """A Split node, one output a size."""
    return make("Split", [value, integers_constant(graph, sizes)], {"axis": axis}, num_outputs=len(sizes))


def graph_of(*values: ir.Value | None) -> ir.Graph:
    """The graph that the values are in."""
    for value in values:
        if value is not None and isinstance(value.graph, ir.Graph):
            return value.graph
    raise AssertionError("values of no graph")
