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
)
from ridgeline_export.packed.fuse.views import source_of_view


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
    for (_, axis), pieces in found.items():
        # What is cut may be a piece itself, and have been replaced by now.
        value = pieces[0].node.inputs[0]
        assert value is not None
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
    """Split of a view of x [1, T, n] → views of a Split of x, where the pieces are columns of x.

    So they are along axis 2 of [1, T, a, …], and along the last axis if it is x's too.
    """
    graph = program.graph
    moved = 0
    for node in tuple(graph):
        value = node.inputs[0] if node.inputs else None
        if (node.domain, node.op_type) != ("", "Split") or value is None or source_of_view(value) is value:
            continue
        source = source_of_view(value)
        viewed, shape, sizes = dims(value), dims(source), split_sizes(node)
        targets = [as_view(dims(output)) for output in node.outputs]
        if viewed is None or shape is None or sizes is None or len(shape) != 3 or None in targets:
            continue
        axis = axis_of(node, len(viewed), 0)
        inner = viewed[axis + 1 :]
        is_third = axis == 2 and len(viewed) > 3 and as_view(viewed[:2]) == as_view(shape[:2])
        is_last = axis == len(viewed) - 1 and viewed[-1] == shape[-1]
        if not (is_third or is_last) or not all(isinstance(dim, int) for dim in inner):
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
