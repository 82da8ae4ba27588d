"""Writing a packed graph: model.onnx, and its weights in model.onnx.data or nowhere."""

from __future__ import annotations

from collections.abc import Callable
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

    with_weights: False writes the graph alone, as `save_without_weights` does, without its weights of 1 KiB and more
    """
    return save_graph(program, directory) if with_weights else save_without_weights(program, directory, _is_large)


def save_without_weights(program: onnx_ir.Model, directory: Path, is_weight: Callable[[onnx_ir.Value], bool]) -> Path:
    """Write a graph whose weights are in a file that is not there; returns the graph's path. The program stays whole.

    For those who bring weights of their own, such as benchmarks: the graph has their shapes and dtypes.

    is_weight: of an initializer; what is no weight keeps its values
    """
    import onnx_ir

    weights = {value: value.const_value for value in program.graph.initializers.values()}
    try:
        offset_bytes = 0
        for value, tensor in weights.items():
            if tensor is None or not is_weight(value):
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


def _is_large(value: onnx_ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype.name in _WEIGHT_TYPES and tensor.nbytes >= _SMALLEST_WEIGHT_BYTES
