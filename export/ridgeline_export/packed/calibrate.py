"""Largest magnitudes of a packed graph's activations on calibration text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.answers import run_graph
from ridgeline_export.convert import save_graph
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.packing import pack
from ridgeline_export.tokenizer import Feed

if TYPE_CHECKING:
    import onnx_ir


def activation_maxima(
    program: onnx_ir.Model, names: Sequence[str], feeds: Iterable[Feed], directory: Path
) -> dict[str, NDArray[np.float32]]:
    """By name of a value [1, tokens, channels] of an fp32 graph, the largest magnitude of each channel, [channels].

    feeds:     padded batches, of which only real tokens count
    directory: an empty one, for the graph that ONNX Runtime reads

    Raises ConversionError when ONNX Runtime cannot run the graph.
    """
    if not names:
        return {}
    copy = program.clone()
    outputs = _ask_for_maxima(copy.graph, names)
    attach_bodies(copy)
    run, input_names = run_graph(save_graph(copy, directory))
    maxima: dict[str, NDArray[np.float32]] = {}
    for feed in feeds:
        for packed in pack(feed):
            found = run({name: packed.feed[name] for name in input_names})
            for name, output in outputs.items():
                maxima[name] = np.maximum(maxima.get(name, np.float32(0)), found[output])
    return maxima


def _ask_for_maxima(graph: onnx_ir.Graph, names: Sequence[str]) -> dict[str, str]:
    """Make the maxima the graph's only outputs; returns the outputs' names by that of the value."""
    import onnx_ir

    values = {value.name: value for node in graph for value in node.outputs}
    axes = onnx_ir.Value(
        name="calibration.axes",
        shape=onnx_ir.Shape([2]),
        type=onnx_ir.TensorType(onnx_ir.DataType.INT64),
        const_value=onnx_ir.tensor(np.array([0, 1]), name="calibration.axes"),
    )
    graph.register_initializer(axes)
    graph.outputs.clear()
    outputs = {}
    for index, name in enumerate(names):
        size = onnx_ir.node("Abs", [values[name]], name=f"calibration.abs.{index}")
        largest = onnx_ir.node("ReduceMax", [size.outputs[0], axes], {"keepdims": 0}, name=f"calibration.max.{index}")
        output = largest.outputs[0]
        size.outputs[0].name, output.name = f"calibration.size.{index}", f"calibration.maximum.{index}"
        output.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
        output.shape = onnx_ir.Shape([f"channels_{index}"])
        graph.extend([size, largest])
        graph.outputs.append(output)
        outputs[name] = str(output.name)
    return outputs
