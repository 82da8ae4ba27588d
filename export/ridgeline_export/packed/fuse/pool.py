"""A pooled vector divided by its length → Pool with normalize."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import make_ridgeline, replace
from ridgeline_export.packed.fuse.values import (
    DOMAIN,
    attribute_int,
    dims,
    input_of,
    integers,
    operands,
    producer,
    scalar,
)

# The dialect's floor of a length, as a float32 or a float64 says it.
_FLOORS = (0.999e-12, 1.001e-12)


def fuse_normalize(program: ir.Model) -> int:
    """x / max(|x|, 1e-12) of a Pool's result. The Pool stays for its other readers."""
    fused = 0
    for node in tuple(program.graph):
        if (node.domain, node.op_type) != ("", "Div"):
            continue
        value, divisor = node.inputs
        assert value is not None and divisor is not None
        pool = producer(value, "Pool", DOMAIN)
        if pool is None or attribute_int(pool, "normalize", 0) or not _is_length(divisor, value):
            continue
        attributes = {name: attribute.value for name, attribute in pool.attributes.items()} | {"normalize": 1}
        new = make_ridgeline("Pool", pool.inputs, attributes)
        replace(node, [new], node.outputs, new.outputs)
        fused += 1
    return fused


def _is_length(value: ir.Value, vector: ir.Value) -> bool:
    """The L2 norm of each row, held to the dialect's floor."""
    node = producer(value, "Expand")
    if node is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    norm = next((norm for norm, floor in _floored(value) if _FLOORS[0] <= floor <= _FLOORS[1]), None)
    if norm is None:
        return False
    reduce = producer(norm, "ReduceL2")
    if reduce is not None:
        return reduce.inputs[0] is vector and _is_last(reduce)
    root = producer(norm, "Sqrt")
    total = producer(root.inputs[0] if root is not None else None, "ReduceSum")
    square = None if total is None or total.inputs[0] is None else total.inputs[0].producer()
    if total is None or square is None or not _is_last(total) or square.inputs[0] is not vector:
        return False
    if square.op_type == "Mul":
        return square.inputs[1] is vector
    return square.op_type == "Pow" and scalar(square.inputs[1]) == 2.0


def _floored(value: ir.Value) -> Iterator[tuple[ir.Value, float]]:
    clip, largest = producer(value, "Clip"), producer(value, "Max")
    if clip is not None and clip.inputs[0] is not None and input_of(clip, 2) is None:
        floor = scalar(input_of(clip, 1))
        if floor is not None:
            yield clip.inputs[0], floor
    if largest is not None and len(largest.inputs) == 2:
        for norm, other in operands(largest):
            floor = scalar(other)
            if floor is not None:
                yield norm, floor


def _is_last(node: ir.Node) -> bool:
    """A reduction of rows [sequences, dim] to [sequences, 1]."""
    axes, shape = integers(input_of(node, 1)), dims(node.inputs[0])
    if shape is None or len(shape) != 2 or attribute_int(node, "keepdims", 1) != 1:
        return False
    return axes is not None and [axis % 2 for axis in axes] == [1]
