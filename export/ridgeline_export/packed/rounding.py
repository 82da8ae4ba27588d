"""A graph of 16 bits as ONNX Runtime's CPU can run it: standard ops in float32, their results rounded as they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.packed.value_types import set_dtype

if TYPE_CHECKING:
    import onnx_ir

# They move numbers, or make them: nothing to round. CPU kernels for these take any dtype.
_EXACT_OPS = frozenset(
    {"Cast", "CastLike", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Split", "Slice", "Concat", "Gather"}
    | {"Identity", "Expand", "Flatten", "Tile", "Shape", "Size"}
)


def run_in_float32(program: onnx_ir.Model) -> int:
    """Wrap standard arithmetic of 16 bits in casts, in place, so that it rounds where the graph says; how many nodes.

    ONNX Runtime has no bfloat16 arithmetic on CPUs, and does float16's in float32 without rounding between nodes. The
    dialect's ops need no help: their bodies compute in float32 and round at the end.
    """
    import onnx_ir

    halves, float32 = (onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.FLOAT16), onnx_ir.DataType.FLOAT
    nodes = [node for node in program.graph if node.domain == "" and node.op_type not in _EXACT_OPS]
    wrapped = 0
    for node in nodes:
        if not any(value is not None and value.dtype in halves for value in (*node.inputs, *node.outputs)):
            continue
        wrapped += 1
        for index, value in enumerate(list(node.inputs)):
            if value is not None and value.dtype in halves:
                widened = onnx_ir.node("Cast", [value], {"to": int(float32)})
                widened.outputs[0].dtype, widened.outputs[0].shape = float32, value.shape
                program.graph.insert_before(node, widened)
                node.replace_input_with(index, widened.outputs[0])
        for output in node.outputs:
            if output.dtype is not None and output.dtype in halves:
                half = output.dtype
                rounded = onnx_ir.node("Cast", [output], {"to": int(half)})
                result = rounded.outputs[0]
                output.replace_all_uses_with(result)
                rounded.replace_input_with(0, output)
                set_dtype(output, float32)
                result.dtype, result.shape = half, output.shape
                program.graph.insert_after(node, rounded)
    return wrapped
