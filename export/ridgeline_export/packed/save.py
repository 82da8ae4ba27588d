"""Writing a packed graph: model.onnx, and its weights in model.onnx.data or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline_export.convert import GRAPH_NAME, WEIGHTS_NAME, save_graph

if TYPE_CHECKING:
    import onnx_ir

# Smaller ones, and integers, are part of the computation: a graph without weights keeps their values.
_SMALLEST_WEIGHT_BYTES = 1024
_WEIGHT_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "INT8")


def save_packed(program: onnx_ir.Model, directory: Path, *, with_weights: bool = True) -> Path:
    """Write a graph into a directory and return the graph's path.

    with_weights: False writes the graph alone. Its weights of 1 KiB and more then name a file that is not there, with
        their shapes and dtypes: for those who bring weights of their own, such as benchmarks.
    """
    import onnx_ir

    if with_weights:
        return save_graph(program, directory)
    weights = {value: value.const_value for value in program.graph.initializers.values()}
    try:
        offset_bytes = 0
        for value, tensor in weights.items():
            if tensor is None or tensor.dtype.name not in _WEIGHT_TYPES or tensor.nbytes < _SMALLEST_WEIGHT_BYTES:
                continue
            value.const_value = onnx_ir.ExternalTensor(
                WEIGHTS_NAME,
                offset_bytes,
                tensor.nbytes,
                tensor.dtype,
                shape=onnx_ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
                base_dir=directory,
            )
            offset_bytes += tensor.nbytes
        path = directory / GRAPH_NAME
        onnx_ir.save(program, path)
    finally:
        for value, tensor in weights.items():
            value.const_value = tensor
    return path
