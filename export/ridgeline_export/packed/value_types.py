"""What dtype each value of a packed graph has: by the dialect's law for its ops, by ONNX's rules for standard ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.specification import op_outputs

if TYPE_CHECKING:
    import onnx_ir

_INTEGERS = frozenset({"Shape", "Size", "NonZero", "ArgMax", "ArgMin"})
_BOOLEANS = frozenset(
    {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}
)


def is_ridgeline(node: onnx_ir.Node) -> bool:
    """True for an op of the dialect."""
    return bool(node.domain == dialect().domain)


def is_float(value: onnx_ir.Value | None) -> bool:
    """True for a value of float, float16 or bfloat16; codes of fp8 are none."""
    import onnx_ir

    floats = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
    return value is not None and value.dtype in floats


def set_dtype(value: onnx_ir.Value, dtype: int) -> None:
    """Give a value a dtype of its own: graphs cloned from one another share the objects that hold their types."""
    import onnx_ir

    value.type = onnx_ir.TensorType(onnx_ir.DataType(dtype))


def complete_dtypes(graph: onnx_ir.Graph) -> None:
    """Give a dtype to every value that has none, in an fp32 graph whose nodes are sorted."""
    for node in graph:
        for index, output in enumerate(node.outputs):
            if output.dtype is None:
                set_dtype(output, _dtype(node, index))


def _dtype(node: onnx_ir.Node, index: int) -> int:
    import onnx_ir

    kinds = onnx_ir.DataType
    if is_ridgeline(node):
        named = op_outputs(node.op_type)[index].type
        if named == "codes":
            return int(kinds.INT8 if _text(node, "format", "int8") == "int8" else kinds.FLOAT8E4M3FN)
        if named == "to":
            return node.attributes["to"].as_int() if "to" in node.attributes else int(kinds.FLOAT)
        return int(kinds.FLOAT)
    if node.op_type == "Cast":
        return node.attributes["to"].as_int()
    if node.op_type in _INTEGERS:
        return int(kinds.INT64)
    if node.op_type in _BOOLEANS:
        return int(kinds.BOOL)
    typed = node.inputs[{"Where": 1, "OneHot": 2, "CastLike": 1}.get(node.op_type, 0)] if node.inputs else None
    return int(typed.dtype if typed is not None and typed.dtype is not None else kinds.FLOAT)


def _text(node: onnx_ir.Node, name: str, default: str) -> str:
    return node.attributes[name].as_string() if name in node.attributes else default
