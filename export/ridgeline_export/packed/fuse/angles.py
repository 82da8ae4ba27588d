"""Angles of rotary embeddings that are there twice, once for each number of a pair: one of the two is enough."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import make, reshape, typed
from ridgeline_export.packed.fuse.values import as_view, axis_of, constant, dims, input_of, integers, last_dim, scalar
from ridgeline_export.packed.fuse.views import source_of_view
from ridgeline_export.packed.fuse.weights import Weights

_OF_ONE = frozenset({"Cos", "Sin", "Neg", "Cast"})
_OF_TWO = frozenset({"Mul", "Div", "Add", "Sub"})


class Angles:
    """Cosines and sines of half the width, each made once for all layers."""

    def __init__(self, graph: ir.Graph, weights: Weights) -> None:
        self._graph = graph
        self._weights = weights
        self._made: dict[tuple[ir.Value, bool], ir.Value | None] = {}
        self._is_interleaved = False

    def halves(self, cos: ir.Value, sin: ir.Value, is_interleaved: bool) -> tuple[ir.Value, ir.Value] | None:
        """[1, tokens, 2 * half] → [1, tokens, half], where it can be proved that every angle is there twice.

        is_interleaved: the two are neighbours, not half the width apart
        """
        self._is_interleaved = is_interleaved
        halved = [self._half(value) for value in (cos, sin)]
        return None if halved[0] is None or halved[1] is None else (halved[0], halved[1])

    def _half(self, value: ir.Value) -> ir.Value | None:
        key = (value, self._is_interleaved)
        if key not in self._made:
            self._made[key] = self._make(value)
        return self._made[key]

    def _make(self, value: ir.Value) -> ir.Value | None:
        """Each angle once, if it is there twice."""
        shape, width = dims(value), last_dim(value)
        node = value.producer()
        if shape is None or width is None or width % 2 or node is None or node.domain != "":
            return self._table(value)
        first = node.inputs[0]
        assert first is not None
        half_shape = [*shape[:-1], width // 2]
        if self._is_interleaved and node.op_type == "Reshape":
            repeated = _repeated(value)
            if repeated is not None:
                return repeated
        if not self._is_interleaved and node.op_type == "Concat" and axis_of(node, len(shape)) == len(shape) - 1:
            return first if len(node.inputs) == 2 and node.inputs[1] is first else None
        new: ir.Node | None = None
        if node.op_type in _OF_ONE:
            half = self._half(first)
            new = None if half is None else make(node.op_type, [half], node.attributes)
        elif node.op_type in _OF_TWO and any(scalar(operand) is not None for operand in node.inputs):
            operands = [operand if scalar(operand) is not None else self._half_of(operand) for operand in node.inputs]
            new = None if None in operands else make(node.op_type, operands)
        elif node.op_type == "Gather" and axis_of(node, 2, 0) == 0 and dims(first) is not None:
            table = self._table(first)
            new = None if table is None else make("Gather", [table, input_of(node, 1)], {"axis": 0})
        elif node.op_type in ("Reshape", "Unsqueeze", "Squeeze"):
            half, target = self._half(first), as_view((*shape[:-1], width // 2))
            if half is not None and target is not None and last_dim(first) == width:
                new = reshape(self._graph, half, target)
        if new is None:
            return None
        typed(new.outputs[0], value, half_shape)
        self._graph.insert_after(node, new)
        return new.outputs[0]

    def _half_of(self, value: ir.Value | None) -> ir.Value | None:
        return None if value is None else self._half(value)

    def _table(self, value: ir.Value) -> ir.Value | None:
        """A constant whose halves are equal → its first half."""
        array = constant(value)
        if array is None or array.ndim == 0 or array.shape[-1] % 2 or self._is_interleaved:
            return None
        first, second = np.split(array, 2, axis=-1)
        return self._weights.first_columns(value, first.shape[-1]) if np.array_equal(first, second) else None


def _repeated(value: ir.Value) -> ir.Value | None:
    """x [1, tokens, half] of a value that has each of its elements twice, side by side."""
    shape = dims(value)
    tile = source_of_view(value).producer()
    if shape is None or tile is None or tile.op_type not in ("Tile", "Expand") or tile.inputs[0] is None:
        return None
    single, twice = dims(tile.inputs[0]), dims(tile.outputs[0])
    if single is None or twice is None or single[-1] != 1 or twice[-1] != 2 or len(single) != len(twice):
        return None
    if tile.op_type == "Tile" and integers(input_of(tile, 1)) != [1] * (len(single) - 1) + [2]:
        return None
    source = source_of_view(tile.inputs[0])
    wanted = (*shape[:-1], last_dim(value) // 2)  # type: ignore[operator]
    return source if dims(source) == wanted else None
