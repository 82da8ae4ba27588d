"""A bfloat16 graph as ONNX Runtime's CPU can run it: every standard op in float32, its result rounded to bfloat16."""

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
    """Wrap standard bfloat16 arithmetic in casts, in place, so that it rounds where the graph says; how many nodes.

    The dialect's ops need no help: their bodies compute in float32 and round at the end. ONNX Runtime has no bfloat16
    arithmetic on CPUs.
    """
    import onnx_ir

    bfloat16, float32 = onnx_ir.DataType.BFLOAT16, onnx_ir.DataType.FLOAT
    nodes = [node for node in program.graph if node.domain == "" and node.op_type not in _EXACT_OPS]
    wrapped = 0
    for node in nodes:
        if not any(value is not None and value.dtype == bfloat16 for value in (*node.inputs, *node.outputs)):
            continue
        wrapped += 1
        for index, value in enumerate(list(node.inputs)):
            if value is not None and value.dtype == bfloat16:
                widened = onnx_ir.node("Cast", [value], {"to": int(float32)})
                widened.outputs[0].dtype, widened.outputs[0].shape = float32, value.shape
                program.graph.insert_before(node, widened)
                node.replace_input_with(index, widened.outputs[0])
        for output in node.outputs:
            if output.dtype == bfloat16:
                rounded = onnx_ir.node("Cast", [output], {"to": int(bfloat16)})
                result = rounded.outputs[0]
                output.replace_all_uses_with(result)
                rounded.replace_input_with(0, output)
                set_dtype(output, float32)
                result.dtype, result.shape = bfloat16, output.shape
                program.graph.insert_after(node, rounded)
    return wrapped
