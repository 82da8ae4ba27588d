"""Linears of a packed graph → linears over int8 or fp8 codes: weights per output channel, activations per token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.layers import is_linear, layer_linears
from ridgeline_export.packed.value_types import complete_dtypes

if TYPE_CHECKING:
    import onnx_ir

# The largest code; of e4m3 the largest finite number.
LARGEST = {"int8": 127.0, "fp8": 448.0}


def quantize_linears(program: onnx_ir.Model, format: str = "int8", *, heads: bool = False) -> int:
    """Replace Linear by QuantizeRows and QuantizedLinear in place, in the layers of a fused graph; returns how many.

    format: "int8" or "fp8" (e4m3). Weights are symmetric per output channel, scale = max|w| / 127 or / 448, codes
            rounded to nearest even; a channel of zeros has scale 1. Linears that share an input share its codes.
            Biases are float32.
    heads:  True for poolers, classifiers and language-model heads as well. They are left alone by default: what they
            give is the answer itself, with no layer behind it to even out an error, and a few rows of work save little.
            Embeddings are look-ups, whose rows codes would only make smaller.

    Run it before `to_precision`, which gives the new nodes their dtype. Raises ConversionError when a weight is not
    finite; ValueError for another format.
    """
    if format not in LARGEST:
        raise ValueError(f"format is '{format}'; allowed are: {', '.join(LARGEST)}")
    program.graph.sort()
    complete_dtypes(program.graph)
    chosen = [node for node in program.graph if is_linear(node)] if heads else layer_linears(program.graph)
    return replace_linears(program.graph, chosen, format)


def replace_linears(graph: onnx_ir.Graph, linears: list[onnx_ir.Node], format: str) -> int:
    """Quantize these Linear nodes of a graph; returns how many they were."""
    work = _Replacement(graph, format)
    for node in linears:
        work.replace(node)
    return len(linears)


def quantize_weight(weight: NDArray[np.float32], format: str) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Codes [out, in], int8 or float8_e4m3fn, and scale [out] float32 of a weight [out, in]: weight ≈ codes · scale."""
    import onnx_ir

    largest = np.abs(weight).max(axis=1, initial=0.0).astype(np.float32)
    # Divided as the kernels do it: a scale that underflows to zero counts as one.
    scale = (largest / np.float32(LARGEST[format])).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    codes = weight.astype(np.float32) / scale[:, None]
    if format == "int8":
        return np.clip(np.rint(codes), -127, 127).astype(np.int8), scale
    kind = onnx_ir.DataType.FLOAT8E4M3FN.numpy()
    return np.clip(codes, -448, 448).astype(kind), scale


class _Replacement:
    """Linears of one graph turned into products of codes; inputs and weights are quantized once each."""

    def __init__(self, graph: onnx_ir.Graph, format: str) -> None:
        import onnx_ir

        self.graph = graph
        self.format = format
        self.codes_type = onnx_ir.DataType.INT8 if format == "int8" else onnx_ir.DataType.FLOAT8E4M3FN
        self.rows: dict[onnx_ir.Value, tuple[onnx_ir.Value, onnx_ir.Value]] = {}
        self.weights: dict[onnx_ir.Value, tuple[onnx_ir.Value, onnx_ir.Value]] = {}

    def replace(self, node: onnx_ir.Node) -> None:
        import onnx_ir

        x, weight, bias, residual = (*node.inputs, None, None)[:4]
        assert x is not None and weight is not None
        codes, scale = self._once(self.rows, x, self._quantize_rows)
        weight_codes, weight_scale = self._once(self.weights, weight, self._quantize_weight)
        inputs = [codes, scale, weight_codes, weight_scale, bias, residual]
        while inputs[-1] is None:
            inputs.pop()
        output = node.outputs[0]
        attributes = {name: attribute for name, attribute in node.attributes.items() if name == "activation"}
        quantized = onnx_ir.Node(
            dialect().domain,
            "QuantizedLinear",
            inputs,
            [
                *attributes.values(),
                onnx_ir.AttrString("format", self.format),
                onnx_ir.AttrInt64("to", int(output.dtype or onnx_ir.DataType.FLOAT)),
            ],
            version=dialect().ops["QuantizedLinear"].since,
            name=node.name,
            num_outputs=1,
            metadata_props=dict(node.metadata_props),
        )
        self.graph.insert_before(node, quantized)
        self._take_over(node, quantized)

    def _take_over(self, node: onnx_ir.Node, quantized: onnx_ir.Node) -> None:
        """Give a node's output, with its name and readers, to the node in its place."""
        old, new = node.outputs[0], quantized.outputs[0]
        name, new.shape, new.type = old.name, old.shape, old.type
        is_output = old.is_graph_output()
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new
        old.replace_all_uses_with(new)
        self.graph.remove(node, safe=not is_output)
        new.name = name

    def _once(
        self,
        made: dict[onnx_ir.Value, tuple[onnx_ir.Value, onnx_ir.Value]],
        value: onnx_ir.Value,
        make: Callable[[onnx_ir.Value], tuple[onnx_ir.Value, onnx_ir.Value]],
    ) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        if value not in made:
            made[value] = make(value)
        return made[value]

    def _quantize_rows(self, x: onnx_ir.Value) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        import onnx_ir

        node = onnx_ir.Node(
            dialect().domain,
            "QuantizeRows",
            [x],
            [onnx_ir.AttrString("format", self.format)],
            version=dialect().ops["QuantizeRows"].since,
            name=f"{x.name}.quantize",
            num_outputs=2,
        )
        codes, scale = node.outputs
        codes.name, codes.shape, codes.dtype = f"{x.name}.codes", x.shape, self.codes_type
        scale.name, scale.dtype = f"{x.name}.scale", onnx_ir.DataType.FLOAT
        if x.shape is not None:
            scale.shape = onnx_ir.Shape(list(x.shape)[:-1])
        producer = x.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return codes, scale

    def _quantize_weight(self, weight: onnx_ir.Value) -> tuple[onnx_ir.Value, onnx_ir.Value]:
        assert weight.const_value is not None
        array = weight.const_value.numpy().astype(np.float32)
        if not np.isfinite(array).all():
            raise ConversionError(f"the weight '{weight.name}' is not finite and cannot be quantized")
        codes, scale = quantize_weight(array, self.format)
        return self._store(f"{weight.name}.codes", codes), self._store(f"{weight.name}.scale", scale)

    def _store(self, name: str, array: NDArray[np.generic]) -> onnx_ir.Value:
        import onnx_ir

        tensor = onnx_ir.tensor(array, name=name)
        value = onnx_ir.Value(
            name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value
