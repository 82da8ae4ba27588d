"""Activations: those that the dialect names, and those that models write out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import make, replace
from ridgeline_export.packed.fuse.values import attribute_string, dims, operands, producer, scalar

_POINTS = np.concatenate([np.linspace(-12.0, 12.0, 481), np.geomspace(1e-6, 1e-1, 20), -np.geomspace(1e-6, 1e-1, 20)])
_ARITHMETIC: Mapping[str, Callable[..., np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Tanh": np.tanh,
    "Exp": np.exp,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Erf": np.vectorize(math.erf, otypes=[np.float64]),
}
# Ops that a hand-written GELU turns on, and how far behind and before it the whole formula may reach.
_CORES = ("Erf", "Tanh")
_REACH_BEHIND = 5
_REACH_BEFORE = 8


def activation_of(value: ir.Value) -> tuple[str, ir.Value, tuple[ir.Node, ...]] | None:
    """The dialect's name of the activation that made a value, what it was made from, and the nodes that made it."""
    node = value.producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type == "Gelu":
        name = "gelu_tanh" if attribute_string(node, "approximate", "none") == "tanh" else "gelu"
        return name, node.inputs[0], (node,)
    if node.op_type == "Mul":
        for x, gate in operands(node):
            sigmoid = producer(gate, "Sigmoid")
            if sigmoid is not None and sigmoid.inputs[0] is x:
                return "silu", x, (sigmoid, node)
    names = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
    if node.op_type in names:
        return names[node.op_type], node.inputs[0], (node,)
    return None


def name_gelus(program: ir.Model) -> int:
    """GELU by erf or by tanh, in whatever form it is written out → Gelu.

    A form is known by its values: a chain of elementwise ops from one tensor to another, with no other operands than
    numbers, is a function of one number, and is compared with both GELUs at points from -12 to 12.
    """
    named = 0
    for core in tuple(program.graph):
        if core.op_type not in _CORES or core.domain != "" or core.graph is None:
            continue
        for sink in _behind(core.outputs[0]):
            found = _known(sink)
            if found is None:
                continue
            source, approximate = found
            new = make("Gelu", [source], {"approximate": approximate})
            last = sink.producer()
            assert last is not None
            replace(last, [new], [sink], new.outputs)
            named += 1
            break
    return named


def _behind(value: ir.Value) -> Iterator[ir.Value]:
    """The values that follow from one by elementwise ops, the nearest first."""
    frontier = [value]
    for _ in range(_REACH_BEHIND):
        frontier = [
            node.outputs[0]
            for reached in frontier
            for node, _ in reached.uses()
            if node.domain == "" and node.op_type in _ARITHMETIC and dims(node.outputs[0]) == dims(value)
        ]
        yield from frontier


def _known(sink: ir.Value) -> tuple[ir.Value, str] | None:
    """The tensor that the sink is a GELU of, and which GELU."""
    for source in _before(sink):
        with np.errstate(all="ignore"):
            got = _evaluate(sink, source, {})
        if got is None or got.shape != _POINTS.shape or dims(source) != dims(sink):
            continue
        for approximate, want in _gelus().items():
            # Constants are rounded to float32 in graphs: 3e-8 of each factor.
            if np.allclose(got, want, rtol=1e-6, atol=1e-7):
                return source, approximate
    return None


def _before(sink: ir.Value) -> list[ir.Value]:
    """The tensors that the sink follows from by elementwise ops, the nearest first."""
    seen: dict[ir.Value, None] = {}
    frontier = [sink]
    for _ in range(_REACH_BEFORE):
        nodes = [node for node in (value.producer() for value in frontier) if node is not None]
        frontier = [
            value
            for node in nodes
            if node.domain == "" and node.op_type in _ARITHMETIC
            for value in node.inputs
            if value is not None and scalar(value) is None and value not in seen
        ]
        seen.update(dict.fromkeys(frontier))
    return list(seen)


def _evaluate(value: ir.Value, source: ir.Value, known: dict[ir.Value, np.ndarray]) -> np.ndarray | None:
    """The value where the source is _POINTS; None if it depends on more than the source and numbers."""
    if value is source:
        return _POINTS
    if value in known:
        return known[value]
    number = scalar(value)
    if number is not None:
        return np.float64(number)  # type: ignore[return-value]
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in _ARITHMETIC:
        return None
    operands = [None if operand is None else _evaluate(operand, source, known) for operand in node.inputs]
    if any(operand is None for operand in operands):
        return None
    known[value] = _ARITHMETIC[node.op_type](*operands)
    return known[value]


def _gelus() -> dict[str, np.ndarray]:
    x = _POINTS
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return {"none": 0.5 * x * (1 + _ARITHMETIC["Erf"](x / np.sqrt(2))), "tanh": 0.5 * x * (1 + np.tanh(inner))}
