"""Which function counts which op: a handler per op type, open to more op domains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

from ridgeline_estimate.graph.model import Call, Shape, UnknownShape, Value

# What an op does to its values; parts of the model and fusion are found by it.
Kind = Literal[
    "matmul", "attention", "softmax", "norm", "activation", "elementwise", "reduce", "movement", "view", "lookup",
    "quantization", "convolution", "unknown",
]  # fmt: skip
STANDARD = ""
MICROSOFT = "com.microsoft"
RIDGELINE = "ridgeline"  # the packed dialect: docs/dialect.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a node, or of one step of it.

    matmul_flops, other_flops, skipped_flops: as in Op
    part:    of the model, None = found from the graph
    step:    name of the step when the node is several, such as "scores"
    dtype:   as in Op, None = the format of the output
    reads, writes, weights: None = the node's inputs that are not static, its outputs, its static inputs
    weight_bytes, read_bytes, written_bytes: where they are not the sizes of those values
    parameters: where it is not what the weights hold
    owned:   indexes of the inputs that may hold parameters, None = all: scales and zero points are none
    shape:   of the output, None = the node's
    fused:   True where the step's activations never reach memory
    """

    matmul_flops: float = 0.0
    other_flops: float = 0.0
    skipped_flops: float = 0.0
    part: str | None = None
    step: str = ""
    dtype: str | None = None
    reads: Sequence[Value] | None = None
    writes: Sequence[Value] | None = None
    weights: Sequence[Value] | None = None
    weight_bytes: float | None = None
    read_bytes: float | None = None
    written_bytes: float | None = None
    parameters: int | None = None
    owned: tuple[int, ...] | None = None
    shape: Shape | None = None
    fused: bool = False


Costs = Cost | Sequence[Cost] | None
Handler = Callable[[Call], Costs]
H = TypeVar("H", bound=Callable[[Call], object])
# Element type and shape of each output, None for one that is not known.
Outputs = Sequence[tuple[int, Shape] | None]
ShapeFunction = Callable[[Call], Outputs]


@dataclass(frozen=True, slots=True)
class Entry:
    """How an op type is counted."""

    handler: Handler
    kind: Kind


_HANDLERS: dict[tuple[str, str], Entry] = {}
_SHAPES: dict[tuple[str, str], ShapeFunction] = {}


def handles(*names: str, kind: Kind, domain: str = STANDARD) -> Callable[[H], H]:
    """Register the function that counts op types of a domain.

    It gets a call whose shapes are known as far as they could be found, and returns its cost, the costs of its steps,
    or None when it moves and computes nothing. It may raise UnknownShape.
    """

    def register(handler: H) -> H:
        for name in names:
            _HANDLERS[domain, name] = Entry(cast(Handler, handler), kind)
        return handler

    return register


def shapes(*names: str, domain: str = MICROSOFT) -> Callable[[ShapeFunction], ShapeFunction]:
    """Register the function that gives the outputs of op types that ONNX itself does not know.

    It gets a call without outputs. It may raise UnknownShape.
    """

    def register(function: ShapeFunction) -> ShapeFunction:
        for name in names:
            _SHAPES[domain, name] = function
        return function

    return register


def find_handler(domain: str, op_type: str) -> Entry | None:
    """How an op type is counted, None for an unknown one."""
    return _HANDLERS.get((_canonical(domain), op_type))


def find_shapes(domain: str, op_type: str) -> ShapeFunction | None:
    """The function that gives its outputs, None when there is none."""
    return _SHAPES.get((_canonical(domain), op_type))


def costs_of(call: Call) -> tuple[Cost, ...]:
    """Costs of a call's steps: none when it is unknown, computes nothing, or lacks a shape."""
    entry = find_handler(call.node.domain, call.node.op_type)
    if entry is None:
        return ()
    try:
        costs = entry.handler(call)
    except UnknownShape:
        return ()
    return (costs,) if isinstance(costs, Cost) else tuple(costs or ())


def handled_ops() -> frozenset[tuple[str, str]]:
    """(domain, op type) of all that are counted."""
    return frozenset(_HANDLERS)


def _canonical(domain: str) -> str:
    return STANDARD if domain == "ai.onnx" else domain
