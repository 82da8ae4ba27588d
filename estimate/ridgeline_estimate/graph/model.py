"""A graph as it lies in a file, and its values and calls on a workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Axis = int | str | None  # a size, a symbol, or unknown

# ONNX's numbers of element types (onnx.proto, TensorProto.DataType) and our names of their formats.
FLOAT, UINT8, INT8, INT32, INT64, BOOL, FLOAT16, FLOAT8 = 1, 2, 3, 6, 7, 9, 10, 17
FORMATS: Mapping[int, str] = {
    1: "fp32", 2: "int8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16",
    11: "fp64", 12: "int32", 13: "int64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8",
    21: "int4", 22: "int4", 23: "fp4", 24: "fp8", 25: "int2", 26: "int2",
}  # fmt: skip
FORMAT_BYTES: Mapping[str, float] = {
    "fp64": 8, "int64": 8, "fp32": 4, "int32": 4, "fp16": 2, "bf16": 2, "int16": 2, "fp8": 1, "int8": 1, "bool": 1,
    "int4": 0.5, "fp4": 0.5, "int2": 0.25,
}  # fmt: skip
FLOATING = frozenset({"fp64", "fp32", "fp16", "bf16"})
SMALL = frozenset({"int8", "fp8", "int4", "fp4", "int2"})  # formats that quantized matmuls run in


class UnknownShape(Exception):
    """A value's shape is needed and could not be found."""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """An initializer. stored_bytes: in the file; array: its elements when they are few and at hand."""

    name: str
    element_type: int
    shape: Shape
    stored_bytes: int
    array: Array | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a file says of a value. shape: None when it says nothing."""

    name: str
    element_type: int
    shape: tuple[Axis, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node of the file. path: of the module that it came from, "" when unknown; proto: for shape inference."""

    name: str
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    bodies: Mapping[str, Body]
    path: str
    proto: Any = field(repr=False)

    def __str__(self) -> str:
        return f"{self.op_type} '{self.name or (self.outputs or ('',))[0]}'"


@dataclass(frozen=True, slots=True)
class Body:
    """A graph or a subgraph, nodes in an order in which they can run."""

    inputs: tuple[Declared, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Weight]
    declared: Mapping[str, Declared]
    nodes: tuple[Node, ...]


@dataclass(slots=True, eq=False)
class Value:
    """What a name in a graph stands for on one workload.

    shape:     None when it could not be found
    constant:  its elements when they are few and known, as those of shape arithmetic are
    is_static: made of weights alone, so that runtimes compute it when they load the graph
    stored:    format in which it lies in memory: of a value that was dequantized, that of the integers
    scale_bytes: scales and zero points that are read beside it
    weights:   initializers that it is made of, when it is static
    """

    name: str
    element_type: int
    shape: Shape | None
    constant: Array | None = None
    is_static: bool = False
    stored: str = ""
    scale_bytes: float = 0.0
    weights: tuple[Weight, ...] = ()
    producer: Call | None = None

    def __post_init__(self) -> None:
        self.stored = self.stored or self.format

    @property
    def format(self) -> str:
        """Our name of its format; text and other things that are not numbers count as 8 bytes."""
        return FORMATS.get(self.element_type, "int64")

    @property
    def is_dequantized(self) -> bool:
        """It stands for integers that a matmul can take as they are."""
        return self.stored in SMALL

    @property
    def known_shape(self) -> Shape:
        """Its shape. Raises UnknownShape."""
        if self.shape is None:
            raise UnknownShape(self.name)
        return self.shape

    @property
    def elements(self) -> int:
        """How many numbers it holds. Raises UnknownShape."""
        return prod(self.known_shape)

    @property
    def bytes(self) -> float:
        """What it takes in memory. Raises UnknownShape."""
        return self.elements * FORMAT_BYTES[self.stored] + self.scale_bytes


@dataclass(slots=True, eq=False)
class Call:
    """A node with its values. times: how often it runs, in a loop's body."""

    node: Node
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...] = ()
    times: int = 1

    def attribute(self, name: str, default: Any = None) -> Any:
        """The node's attribute, or the default."""
        return self.node.attributes.get(name, default)

    def optional(self, index: int) -> Value | None:
        """The input at that index, None when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """The input at that index. Raises UnknownShape when it is left out."""
        value = self.optional(index)
        if value is None:
            raise UnknownShape(f"input {index}")
        return value

    def shape(self, index: int) -> Shape:
        """Shape of the input at that index. Raises UnknownShape."""
        return self.input(index).known_shape

    @property
    def output(self) -> Value:
        """The first output. Raises UnknownShape when there is none."""
        for value in self.outputs:
            if value is not None:
                return value
        raise UnknownShape("outputs")

    @property
    def activations(self) -> list[Value]:
        """Inputs that are not static, each once."""
        return list(dict.fromkeys(value for value in self.inputs if value is not None and not value.is_static))

    @property
    def static_inputs(self) -> list[Value]:
        """Inputs made of weights alone, each once."""
        return list(dict.fromkeys(value for value in self.inputs if value is not None and value.is_static))


def broadcast(*shapes: Shape) -> Shape:
    """The shape that they broadcast to. Raises UnknownShape when they do not."""
    try:
        return tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError:
        raise UnknownShape(f"shapes {shapes}") from None
