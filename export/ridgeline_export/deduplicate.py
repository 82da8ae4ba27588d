"""Equal weights of a graph, stored once: what layers share, and what is alike by chance."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    from numpy.typing import NDArray

# Below it lie scalars, shapes and axes, whose places runtimes' fusions look at, and nothing is to be gained.
SMALLEST_BYTES = 256
_FORM_OPS = ("Cast", "DequantizeLinear", "Identity", "Transpose")


def deduplicate(program: onnx_ir.Model) -> int:
    """Let every use of equal initializers read the first of them, and drop the others; returns the bytes saved.

    Equal are dtype, shape and every bit. Initializers under SMALLEST_BYTES, and those that are a graph's inputs or
    outputs, stay as they are. A graph computes the same before and after.
    """
    alike: dict[tuple[Any, tuple[Any, ...]], list[onnx_ir.Value]] = defaultdict(list)
    for value in program.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype.is_string() or tensor.nbytes < SMALLEST_BYTES:
            continue
        if value.is_graph_input() or value.is_graph_output():
            continue
        alike[tensor.dtype, tuple(tensor.shape.numpy())].append(value)
    return sum(_join(program.graph, values) for values in alike.values() if len(values) > 1)


def shared_bytes(program: onnx_ir.Model) -> int:
    """How many bytes more a graph's weights took, had each node that computes with one a copy of its own."""
    total = 0
    for value in program.graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes >= SMALLEST_BYTES:
            total += max(0, _readers(value) - 1) * value.const_value.nbytes
    return total


def _readers(value: onnx_ir.Value) -> int:
    """Nodes that compute with a weight, some through what only gives it another form."""
    return sum(_readers(node.outputs[0]) if node.op_type in _FORM_OPS else 1 for node, _ in value.uses())


def _join(graph: onnx_ir.Graph, values: list[onnx_ir.Value]) -> int:
    """Initializers of one dtype and shape; returns the bytes saved."""
    kept: dict[bytes, list[onnx_ir.Value]] = defaultdict(list)
    saved_bytes = 0
    for value in values:
        data = _bits(value)
        rivals = kept[hashlib.sha256(data.data).digest()]
        first = next((rival for rival in rivals if (_bits(rival) == data).all()), None)
        if first is None:
            rivals.append(value)
            continue
        assert value.const_value is not None and value.name is not None
        saved_bytes += value.const_value.nbytes
        value.replace_all_uses_with(first)
        del graph.initializers[value.name]
    return saved_bytes


def _bits(value: onnx_ir.Value) -> NDArray[np.uint8]:
    """uint8 [bytes]: a view of the tensor where it lies in one piece."""
    import numpy as np

    assert value.const_value is not None
    return np.ascontiguousarray(value.const_value.numpy()).reshape(-1).view(np.uint8)
