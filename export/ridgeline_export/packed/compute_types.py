"""Which standard nodes of a packed graph stay in float32 when the graph becomes float16 or bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.value_types import is_float, is_ridgeline

if TYPE_CHECKING:
    import onnx_ir

# Squares and sums pass 65,504 long before their roots and means do, and an epsilon of 1e-12 is zero in float16.
# LayerNormalization and Softmax need no entry: both are defined or run with float32 statistics.
FLOAT32_OPS = frozenset(
    {
        "Cos",
        "Sin",
        "Exp",
        "Log",
        "Pow",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sqrt",
        "CumSum",
    }
)
# Of a statistic and an activation these are computed in float32 and rounded once.
ELEMENTWISE_OPS = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Max", "Min"})

# Where numbers become integers or answers of yes and no: half a rounding there is a whole step.
_STEPS = frozenset({"Cast", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_READ_EXACTLY = frozenset({"Cos", "Sin", "Floor", "Ceil", "Round"})
_EXACT_INPUTS = {
    "Rotary": ("cos", "sin"),
    "PackedAttention": ("relative_bias",),
    "QuantizedLinear": ("scale", "weight_scale"),
}


def exact_nodes(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Nodes that angles, relative biases and positions' buckets are computed from, none of which the texts decide.

    Angles reach the longest position, which float16 cannot tell from its neighbours past 2,048.
    """
    of_texts = _downstream(graph)
    seeds = [value for node in graph for value in _exact_inputs(node)]
    found: set[onnx_ir.Node] = set()
    pending = [value.producer() for value in seeds]
    while pending:
        node = pending.pop()
        if node is None or node in found or node in of_texts:
            continue
        found.add(node)
        pending.extend(value.producer() for value in node.inputs if value is not None)
    return found


def _exact_inputs(node: onnx_ir.Node) -> list[onnx_ir.Value]:
    values: Sequence[onnx_ir.Value | None] = ()
    if is_ridgeline(node):
        names = dialect().ops[node.op_type].inputs
        wanted = _EXACT_INPUTS.get(node.op_type, ())
        values = [value for name, value in zip(names, node.inputs, strict=False) if name in wanted]
    elif node.op_type in _READ_EXACTLY or (node.op_type in _STEPS and not is_float(node.outputs[0])):
        values = node.inputs
    return [value for value in values if value is not None and is_float(value)]


def _downstream(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """Nodes whose results depend on the tokens, and the dialect's own ops, whose types the law gives."""
    found: set[onnx_ir.Node] = set()
    for node in graph:
        sources = [value for value in node.inputs if value is not None]
        if (
            is_ridgeline(node)
            or any(value.name in ("input_ids", "token_type_ids") and value.is_graph_input() for value in sources)
            or any(value.producer() in found for value in sources)
        ):
            found.add(node)
    return found
