"""Forward through a graph: the shape of every value on a workload, and the constants that shape arithmetic needs."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ridgeline_estimate.graph.model import (
    SMALL,
    Array,
    Axis,
    Body,
    Call,
    Node,
    Shape,
    UnknownShape,
    Value,
    Weight,
)
from ridgeline_estimate.graph.proto import SMALL_ELEMENTS, Proto
from ridgeline_estimate.graph.registry import STANDARD, Outputs, find_shapes

Scope = dict[str, Value]
ControlFlow = Callable[["Propagation", Node, Scope, int], list[Call]]

# Ops that give the elements of their first input in another order or shape, so that integers stay integers.
_MOVES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Expand"})
_FEW = 64
_RANDOM = ("Random", "Multinomial", "Bernoulli")


@dataclass
class Propagation:
    """State of a pass over a graph. symbols: sizes of the symbols in the file; warnings: what was not found."""

    proto: Proto
    symbols: Mapping[str, int]
    control_flow: Mapping[str, ControlFlow]
    warnings: list[str] = field(default_factory=list)

    def run(self, body: Body, scope: Scope, times: int = 1) -> list[Call]:
        """Calls of a graph's nodes in order. scope: values by name; it takes up the graph's own."""
        scope.update({name: _weight_value(weight) for name, weight in body.weights.items()})
        calls: list[Call] = []
        for node in body.nodes:
            if node.domain in (STANDARD, "ai.onnx") and node.op_type in self.control_flow:
                calls += self.control_flow[node.op_type](self, node, scope, times)
                continue
            call = self._call(node, scope, body)
            call.times = times
            calls.append(call)
            scope.update({value.name: value for value in call.outputs if value is not None})
        return calls

    def _call(self, node: Node, scope: Scope, body: Body) -> Call:
        call = Call(node, tuple(scope.get(name) if name else None for name in node.inputs))
        outputs = self._outputs(call, body)
        call.outputs = tuple(
            Value(name, *output, producer=call) if name else None
            for name, output in zip(node.outputs, outputs, strict=True)
        )
        is_static = _is_static(call)
        for value in call.outputs:
            if value is not None:
                value.is_static = is_static
                value.weights = _weights(call) if is_static else ()
        _keep_integers(call)
        self._fold(call)
        return call

    def _outputs(self, call: Call, body: Body) -> list[tuple[int, Shape | None]]:
        """Element type and shape of each output; the shape is None where nobody knows it."""
        function = find_shapes(call.node.domain, call.node.op_type)
        found: Outputs | None = None
        try:
            # What ONNX infers goes first: some names, such as Gelu, are in both worlds.
            found = self.proto.infer(call)
            if function and (found is None or not found or found[0] is None):
                found = function(call)
        except UnknownShape:
            found = None
        default = next((value.element_type for value in call.inputs if value is not None), 1)
        outputs: list[tuple[int, Shape | None]] = []
        for index, name in enumerate(call.node.outputs):
            known = found[index] if found and index < len(found) else None
            declared = body.declared.get(name)
            if known is not None:
                outputs.append(known)
            elif declared is not None and declared.element_type:
                outputs.append((declared.element_type, bind_shape(declared.shape, self.symbols)))
            else:
                outputs.append((default, None))
        return outputs

    def _fold(self, call: Call) -> None:
        """Compute small outputs of constants."""
        node = call.node
        if node.op_type == "Shape" and call.inputs and call.inputs[0] is not None:
            if call.inputs[0].shape is None:
                return
            shape = call.inputs[0].shape[call.attribute("start", 0) : call.attribute("end")]
            call.output.constant = np.asarray(shape, np.int64)
            return
        if node.op_type == "ScatterElements" and (counts := _even_histogram(call)) is not None:
            call.output.constant = counts
            note = f"{len(counts)} experts are taken to get equally many tokens; which they get is data"
            if note not in self.warnings:
                self.warnings.append(note)
            return
        if node.domain not in (STANDARD, "ai.onnx") or not node.inputs or node.op_type.startswith(_RANDOM):
            return
        values = [value for value in (*call.inputs, *call.outputs) if value is not None]
        if any(value.shape is None or value.elements > _limit(value) for value in values):
            return
        if any(value is not None and value.constant is None for value in call.inputs):
            return
        for value, array in zip(call.outputs, self.proto.evaluate(call) or (), strict=False):
            if value is not None:
                value.constant = array


def _even_histogram(call: Call) -> Array | None:
    """Counts of how often each of E values occurs in data, as routers of experts make them: taken to be even.

    Their sum, which decides the cost, does not depend on that. None when the call counts nothing.
    """
    zeros, updates = call.optional(0), call.optional(2)
    if call.attribute("reduction") != "add" or zeros is None or zeros.constant is None or updates is None:
        return None
    ones = updates.producer.optional(0) if updates.producer and updates.producer.node.op_type == "Expand" else updates
    is_count = ones is not None and ones.constant is not None and (ones.constant == 1).all()
    if not is_count or zeros.constant.ndim != 1 or zeros.constant.any() or updates.shape is None:
        return None
    bounds = np.linspace(0, updates.elements, zeros.constant.size + 1).round()
    return np.diff(bounds).astype(zeros.constant.dtype)


def _limit(value: Value) -> int:
    """Elements up to which a value is computed: shapes are integers, fractions among them are few."""
    return _FEW if value.format.startswith(("fp", "bf")) else SMALL_ELEMENTS


def bind_shape(shape: tuple[Axis, ...] | None, symbols: Mapping[str, int]) -> Shape | None:
    """A shape in the file with sizes for its symbols, None when a symbol is not known. Sums of symbols are computed."""
    if shape is None:
        return None
    sizes = [axis if isinstance(axis, int) else _size(axis, symbols) for axis in shape]
    known = [size for size in sizes if size is not None]
    return tuple(known) if len(known) == len(sizes) else None


def _size(axis: str | None, symbols: Mapping[str, int]) -> int | None:
    if axis is None or axis in symbols:
        return symbols.get(axis or "")
    try:
        return _arithmetic(ast.parse(axis, mode="eval").body, symbols)
    except (SyntaxError, KeyError, ZeroDivisionError):
        return None


def _arithmetic(node: ast.expr, symbols: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(size)):
            return size
        case ast.Name(id=name):
            return symbols[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _arithmetic(left, symbols) + _arithmetic(right, symbols)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _arithmetic(left, symbols) - _arithmetic(right, symbols)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _arithmetic(left, symbols) * _arithmetic(right, symbols)
        case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
            return _arithmetic(left, symbols) // _arithmetic(right, symbols)
    raise KeyError(ast.dump(node))


def _weight_value(weight: Weight) -> Value:
    return Value(
        weight.name, weight.element_type, weight.shape, constant=weight.array, is_static=True, weights=(weight,)
    )


def _is_static(call: Call) -> bool:
    given = [value for value in call.inputs if value is not None]
    if call.node.op_type.startswith(_RANDOM) or len(given) < sum(bool(name) for name in call.node.inputs):
        return False
    return bool(given) and all(value.is_static for value in given)


def _weights(call: Call) -> tuple[Weight, ...]:
    """Initializers that a static value is made of; scales and zero points are no weights."""
    is_quantization = call.node.op_type in ("QuantizeLinear", "DequantizeLinear")
    sources = call.inputs[:1] if is_quantization else call.inputs
    return tuple(dict.fromkeys(weight for value in sources if value is not None for weight in value.weights))


def _keep_integers(call: Call) -> None:
    """A dequantized value lies in memory as the integers that it was made of, also after a move."""
    source = call.optional(0)
    if source is None or not call.outputs or call.outputs[0] is None:
        return
    output = call.outputs[0]
    if call.node.op_type == "DequantizeLinear":
        output.stored = source.stored if source.stored in SMALL else output.stored
        if source.is_static:
            output.scale_bytes = sum(
                value.bytes for value in call.inputs[1:] if value is not None and value.shape is not None
            )
    elif call.node.op_type in _MOVES and source.is_dequantized and source.format == output.format:
        output.stored, output.scale_bytes = source.stored, source.scale_bytes
