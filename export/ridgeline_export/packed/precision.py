"""Packed fp32 graph → float16 or bfloat16 weights and activations, float32 where the dialect or the numbers want it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.compute_types import ELEMENTWISE_OPS, FLOAT32_OPS, exact_nodes
from ridgeline_export.packed.specification import op_inputs, op_outputs
from ridgeline_export.packed.value_types import complete_dtypes, is_float, is_ridgeline, set_dtype

if TYPE_CHECKING:
    import onnx_ir

PRECISIONS = {"fp32": "FLOAT", "fp16": "FLOAT16", "bf16": "BFLOAT16"}
_LARGEST_FP16 = 65_504.0
# Code that wants "minus infinity" writes float32's lowest value: no weight is that large.
_STANDS_FOR_INFINITY = 3e38


def to_precision(program: onnx_ir.Model, precision: str) -> None:
    """Turn a packed fp32 graph into one of "fp16" or "bf16" in place; "fp32" leaves it as it is.

    Weights and activations change. Float32 stay: the graph's outputs, everything that angles, relative biases and
    buckets of positions are computed from, scales of quantized values, and the statistics of norms that are standard
    ops. The dialect's ops take and give what the law says: their sums are float32 anyway.

    Raises ConversionError when a weight is beyond float16's range, or a node has a subgraph; ValueError for another
    precision.
    """
    import onnx_ir
    from onnx_ir.passes import common

    if precision not in PRECISIONS:
        raise ValueError(f"precision is '{precision}'; allowed are: {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return
    for node in program.graph.all_nodes():
        if node.graph is not program.graph:
            raise ConversionError(
                f"the packed graph has a subgraph (node '{node.name}'), which {precision} cannot have"
            )
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(program)
    program.graph.sort()
    complete_dtypes(program.graph)
    _Converter(program.graph, onnx_ir.DataType[PRECISIONS[precision]]).run()
    common.RemoveUnusedNodesPass()(program)
    program.graph.sort()


class _Converter:
    """One walk over a sorted graph.

    rounded: values whose result is float32 but counts as of the target precision for what follows
    """

    def __init__(self, graph: onnx_ir.Graph, target: onnx_ir.DataType) -> None:
        import onnx_ir

        self.graph = graph
        self.target = target
        self.float32 = onnx_ir.DataType.FLOAT
        self.exact = exact_nodes(graph)
        self.copies: dict[tuple[onnx_ir.Value, onnx_ir.DataType], onnx_ir.Value] = {}
        self.rounded: set[onnx_ir.Value] = set()

    def run(self) -> None:
        for node in list(self.graph):
            if is_ridgeline(node):
                self._dialect_node(node)
            else:
                self._standard_node(node)
        self._restore_outputs()
        self._restore_names()

    def _dialect_node(self, node: onnx_ir.Node) -> None:
        import onnx_ir

        for index, (value, spec) in enumerate(zip(list(node.inputs), op_inputs(node.op_type), strict=False)):
            if is_float(value):
                node.replace_input_with(index, self._as(value, self.target if spec.type == "T" else self.float32))
        if node.op_type == "QuantizedLinear":
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(self.target))
            set_dtype(node.outputs[0], self.target)
        elif node.op_type == "Pool":
            output = node.outputs[0]
            to = self.float32 if output.is_graph_output() else self.target
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(to))
            set_dtype(output, to)
        for output, spec in zip(node.outputs, op_outputs(node.op_type), strict=False):
            if spec.type == "T":
                set_dtype(output, self.target)

    def _standard_node(self, node: onnx_ir.Node) -> None:
        if node.op_type == "Cast":
            return
        if node.op_type == "CastLike":
            like = node.inputs[1]
            if like is not None and like.dtype is not None:
                set_dtype(node.outputs[0], like.dtype)
            return
        compute, is_rounded = self._compute(node)
        for index, value in enumerate(list(node.inputs)):
            if is_float(value):
                node.replace_input_with(index, self._as(value, compute))
        makes_float32 = not any(is_float(value) for value in node.inputs)
        # LayerNormalization's mean and deviation are float32 by definition.
        for output in node.outputs[: 1 if node.op_type == "LayerNormalization" else None]:
            if is_float(output) and not makes_float32:
                set_dtype(output, compute)
                if is_rounded:
                    self.rounded.add(output)

    def _compute(self, node: onnx_ir.Node) -> tuple[onnx_ir.DataType, bool]:
        """What a standard node computes in, and whether its float32 result is rounded for what follows."""
        if node in self.exact or node.op_type in FLOAT32_OPS:
            return self.float32, False
        activations = [
            value for value in node.inputs if value is not None and is_float(value) and not value.is_initializer()
        ]
        exact = [value for value in activations if value.dtype == self.float32 and value not in self.rounded]
        if activations and len(exact) == len(activations):
            return self.float32, False
        if exact and node.op_type in ELEMENTWISE_OPS:
            return self.float32, True
        return self.target, False

    def _as(self, value: onnx_ir.Value | None, dtype: onnx_ir.DataType) -> onnx_ir.Value | None:
        """The value in a dtype: itself, a converted weight, or a cast beside its producer."""
        import onnx_ir

        if value is None or value.dtype == dtype:
            return value
        if (value, dtype) in self.copies:
            return self.copies[value, dtype]
        name = f"{value.name}.{dtype.short_name()}"
        if value.is_initializer() and value.const_value is not None:
            tensor = onnx_ir.tensor(_converted(value, dtype), name=name)
            copy = onnx_ir.Value(name=name, shape=value.shape, type=onnx_ir.TensorType(dtype), const_value=tensor)
            self.graph.register_initializer(copy)
        else:
            cast = onnx_ir.node("Cast", [value], {"to": int(dtype)}, name=name)
            copy = cast.outputs[0]
            copy.name, copy.shape, copy.dtype = name, value.shape, dtype
            producer = value.producer()
            if producer is None:
                self.graph.insert_before(self.graph[0], cast)
            else:
                self.graph.insert_after(producer, cast)
        self.copies[value, dtype] = copy
        return copy

    def _restore_outputs(self) -> None:
        """The graph's outputs are float32 under their own names."""
        import onnx_ir

        for index, output in enumerate(self.graph.outputs):
            if output.dtype != self.target:
                continue
            name = output.name
            output.name = f"{name}.{self.target.short_name()}"
            cast = onnx_ir.node("Cast", [output], {"to": int(self.float32)}, name=f"{name}.float32")
            restored = cast.outputs[0]
            restored.name, restored.shape, restored.dtype = name, output.shape, self.float32
            producer = output.producer()
            assert producer is not None, "an input of a packed graph is no float"
            self.graph.insert_after(producer, cast)
            self.graph.outputs[index] = restored

    def _restore_names(self) -> None:
        """A weight that is left in one dtype keeps its name."""
        for (value, _), copy in self.copies.items():
            name = value.name
            if name is not None and name in self.graph.initializers and copy.is_initializer() and not value.uses():
                del self.graph.initializers[name]
                copy.name = name
                assert copy.const_value is not None
                copy.const_value.name = name


def _converted(value: onnx_ir.Value, dtype: onnx_ir.DataType) -> Any:
    """A weight's numbers in another dtype, rounded to nearest even."""
    import onnx_ir

    assert value.const_value is not None
    array = value.const_value.numpy().astype(np.float32)
    if dtype == onnx_ir.DataType.FLOAT16:
        sizes = np.abs(array)
        is_sentinel = np.isfinite(array) & (sizes >= _STANDS_FOR_INFINITY)
        array = np.where(is_sentinel, np.copysign(_LARGEST_FP16, array), array).astype(np.float32)
        largest = float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array)))
        with np.errstate(over="ignore"):
            overflows = not np.isfinite(np.float16(largest))
        if overflows:
            raise ConversionError(
                f"the weight '{value.name}' reaches {largest:.6g}, and float16 ends at 65504; "
                "make packed-bf16, which has float32's range"
            )
    return array.astype(dtype.numpy())
