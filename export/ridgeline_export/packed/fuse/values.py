"""What a value of a graph is: its constant, its shape, who reads it."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

DOMAIN = "ridgeline"

Dims = tuple[int | str | None, ...]


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array that an initializer or a Constant node holds; None for anything computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number of a constant of one element, whatever its rank."""
    if value is None or value.const_value is None or value.const_value.size != 1:
        return None
    array = constant(value)
    return None if array is None else float(array.reshape(()))


def integers(value: ir.Value | None) -> list[int] | None:
    """The numbers of an integer constant of rank 0 or 1."""
    if value is None or value.const_value is None or len(value.const_value.shape) > 1:
        return None
    array = constant(value)
    if array is None or not np.issubdtype(array.dtype, np.integer):
        return None
    return [int(number) for number in array.reshape(-1)]


def is_weight(value: ir.Value | None, rank: int) -> bool:
    """A floating constant of that rank; its numbers are not read."""
    if value is None or value.const_value is None or value.is_graph_input():
        return False
    return value.const_value.dtype.is_floating_point() and len(value.const_value.shape) == rank


def dims(value: ir.Value | None) -> Dims | None:
    """Sizes and names of the axes, None for an axis of neither; None for an unknown rank."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape.dims)


def rank(value: ir.Value | None) -> int | None:
    shape = dims(value)
    return None if shape is None else len(shape)


def last_dim(value: ir.Value | None) -> int | None:
    """The static size of the last axis."""
    shape = dims(value)
    return shape[-1] if shape and isinstance(shape[-1], int) else None


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Both known, equal, and without an axis of neither size nor name: no broadcasting between the two."""
    first, second = dims(a), dims(b)
    return first is not None and None not in first and first == second


def as_view(shape: Dims | None) -> list[int] | None:
    """The Reshape target for a shape: -1 for its one dynamic axis, None when more than one is dynamic."""
    if shape is None:
        return None
    target = [dim if isinstance(dim, int) else -1 for dim in shape]
    return target if target.count(-1) <= 1 and 0 not in target else None


def product_of(shape: Dims) -> int | str | None:
    """How many elements there are: a number, or a multiple of the one dynamic axis such as "4*tokens"."""
    number = math.prod(dim for dim in shape if isinstance(dim, int))
    names = [dim for dim in shape if not isinstance(dim, int)]
    if len(names) != 1 or names[0] is None or number == 1:
        return number if not names else names[0] if len(names) == 1 else None
    return f"{number}*{names[0]}" if names[0].isidentifier() else None


def axis_of(node: ir.Node, of_rank: int, default: int = -1) -> int:
    """The attribute axis, counted from the front."""
    attribute = node.attributes.get("axis")
    axis = default if attribute is None else attribute.as_int()
    return axis + of_rank if axis < 0 else axis


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def attribute_float(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def attribute_string(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def producer(value: ir.Value | None, op_type: str, domain: str = "") -> ir.Node | None:
    """The node that makes the value as its first output, if it is of that op."""
    node = None if value is None else value.producer()
    if node is None or value is None or value.index() != 0:
        return None
    return node if node.op_type == op_type and node.domain == domain else None


def reads(value: ir.Value) -> int:
    """How often the value is read; being a graph output is one more."""
    return len(value.uses()) + value.is_graph_output()


def is_read_once(value: ir.Value) -> bool:
    return reads(value) == 1


def operands(node: ir.Node) -> tuple[tuple[ir.Value, ir.Value], ...]:
    """The two inputs of a commutative node, in both orders."""
    first, second = node.inputs
    assert first is not None and second is not None
    return ((first, second), (second, first))
