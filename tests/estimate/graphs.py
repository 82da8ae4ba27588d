"""Small ONNX graphs that are written by hand, for tests of the estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Axes = Sequence[int | str]
FLOAT, INT64, UINT8, INT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """A weight of that shape."""
    return np.zeros(shape, dtype)


def write_graph(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, tuple[int, Axes]],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    opset: int = 18,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = ("com.microsoft",),
) -> Path:
    """Write a graph. inputs: element type and axes of each; outputs have no shape in the file."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, kind, list(axes)) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10), path)
    return path


def node(op_type: str, inputs: str, outputs: str, *, domain: str = "", name: str = "", **attributes: Any) -> NodeProto:
    """A node; names of inputs and outputs are separated by spaces, "-" is an input that is left out."""
    given = ["" if entry == "-" else entry for entry in inputs.split()]
    return helper.make_node(op_type, given, outputs.split(), name=name, domain=domain, **attributes)


def microsoft(op_type: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node of ONNX Runtime's own domain."""
    return node(op_type, inputs, outputs, domain="com.microsoft", **attributes)
