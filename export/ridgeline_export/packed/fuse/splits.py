"""Slices of one tensor that lie side by side become one Split, and a Split of a view a Split of what is viewed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import replace, reshape, split, typed
from ridgeline_export.packed.fuse.values import (
    as_view,
    attribute_int,
    axis_of,
    dims,
    input_of,
    integers,
    producer,
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """x[start:stop] along an axis, made by a Slice, or by a Gather of one index, which drops the axis."""

    node: ir.Node
    start: int
    stop: int


def join_slices(program: ir.Model) -> int:
    """Slices that cover an axis without gap or overlap → Split."""
    found: dict[tuple[ir.Value, int], list[_Piece]] = {}
    for node in program.graph:
        known = _piece(node)
        if known is not None:
            axis, piece = known
            assert node.inputs[0] is not None
            found.setdefault((node.inputs[0], axis), []).append(piece)
    joined = 0
    for (value, axis), pieces in found.items():
        bounds = sorted({(piece.start, piece.stop) for piece in pieces})
        shape = dims(value)
        assert shape is not None
        ends = [0, *(stop for _, stop in bounds)]
        if len(bounds) < 2 or [start for start, _ in bounds] != ends[:-1] or ends[-1] != shape[axis]:
            continue
        _split(program.graph, value, axis, bounds, pieces)
        joined += 1
    return joined


def _piece(node: ir.Node) -> tuple[int, _Piece] | None:
    """The axis and the piece that a node cuts, if both are known."""
    shape = dims(node.inputs[0]) if node.inputs else None
    if node.domain != "" or shape is None or as_view(dims(node.outputs[0])) is None:
        return None
    if node.op_type == "Gather":
        index = input_of(node, 1)
        numbers = integers(index)
        axis = axis_of(node, len(shape), 0)
        size = shape[axis]
        if numbers is None or dims(index) != () or not isinstance(size, int) or not -size <= numbers[0] < size:
            return None
        start = numbers[0] % size
        return axis, _Piece(node, start, start + 1)
    if node.op_type == "Slice":
        starts, stops, axes = (integers(input_of(node, index)) for index in (1, 2, 3))
        steps = [1] if input_of(node, 4) is None else integers(input_of(node, 4))
        if starts is None or stops is None or axes is None or steps != [1] or len(axes) != 1:
            return None
        axis = axes[0] % len(shape)
        size = shape[axis]
        if not isinstance(size, int):
            return None
        start, stop, _ = slice(starts[0], stops[0]).indices(size)
        return (axis, _Piece(node, start, stop)) if start < stop else None
    return None


def _split(graph: ir.Graph, value: ir.Value, axis: int, bounds: list[tuple[int, int]], pieces: list[_Piece]) -> None:
    shape = dims(value)
    assert shape is not None
    sizes = [stop - start for start, stop in bounds]
    node = split(graph, value, sizes, axis)
    for output, size in zip(node.outputs, sizes, strict=True):
        typed(output, value, [*shape[:axis], size, *shape[axis + 1 :]])
    earliest = pieces[0].node
    graph.insert_before(earliest, node)
    for piece in pieces:
        output = node.outputs[bounds.index((piece.start, piece.stop))]
        cut = piece.node.outputs[0]
        target = as_view(dims(cut))
        assert target is not None
        view = reshape(graph, output, target)
        replace(piece.node, [view], [cut], view.outputs)


def split_before_views(program: ir.Model) -> int:
    """Split(Reshape(x [1, T, n]) to [1, T, a, …], axis 2) → Reshape(Split(x, axis 2)): the pieces are columns of x."""
    graph = program.graph
    moved = 0
    for node in tuple(graph):
        if node.op_type != "Split" or node.domain != "" or axis_of(node, 5, 0) != 2:
            continue
        view = producer(node.inputs[0], "Reshape")
        source = None if view is None else view.inputs[0]
        viewed, shape = dims(node.inputs[0]), dims(source)
        sizes = split_sizes(node)
        targets = [as_view(dims(output)) for output in node.outputs]
        if source is None or viewed is None or shape is None or sizes is None or len(shape) != 3 or len(viewed) < 4:
            continue
        inner = viewed[3:]
        if not all(isinstance(dim, int) for dim in inner) or viewed[:2] != shape[:2] or None in targets:
            continue
        columns = [size * math.prod(dim for dim in inner if isinstance(dim, int)) for size in sizes]
        new = split(graph, source, columns, 2)
        views = []
        for output, width, target in zip(new.outputs, columns, targets, strict=True):
            typed(output, source, [*shape[:2], width])
            assert target is not None
            views.append(reshape(graph, output, target))
        replace(node, [new, *views], node.outputs, [view.outputs[0] for view in views])
        moved += 1
    return moved


def split_sizes(node: ir.Node) -> list[int] | None:
    """The sizes of a Split's outputs, if they are known."""
    sizes = input_of(node, 1)
    if sizes is not None:
        return integers(sizes)
    shape = dims(node.inputs[0])
    if shape is None:
        return None
    size, count = shape[axis_of(node, len(shape), 0)], attribute_int(node, "num_outputs", len(node.outputs))
    if not isinstance(size, int):
        return None
    # Equal pieces, the last one smaller where they do not come out even.
    piece = -(-size // count)
    return [min(piece, size - piece * index) for index in range(count)]
