"""What is computed element by element, and reductions.

A whole activation counts as ridgeline_estimate.flops says (GELU 8, SiLU 4 …); of one that an exporter wrote out, each
node counts, so that Div, Erf, Add, Mul and Mul are GELU's 8 again. Logic on masks counts 1 as arithmetic does.
"""

from __future__ import annotations

from collections.abc import Mapping

from ridgeline_estimate.graph.model import Call, broadcast
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

GELU_FLOPS, SILU_FLOPS, SIGMOID_FLOPS, ERF_FLOPS = 8, 4, 3, 4
FLOPS: Mapping[str, int] = {
    "Gelu": GELU_FLOPS, "FastGelu": GELU_FLOPS, "QuickGelu": SILU_FLOPS + 1, "BiasGelu": GELU_FLOPS, "Erf": ERF_FLOPS,
    "Swish": SILU_FLOPS, "Silu": SILU_FLOPS, "Sigmoid": SIGMOID_FLOPS, "Tanh": 1, "Relu": 1, "LeakyRelu": 2,
    "PRelu": 2, "Elu": 3, "Celu": 4, "Selu": 4, "Softplus": 3, "Softsign": 3, "Mish": 5, "HardSigmoid": 3,
    "HardSwish": 4, "ThresholdedRelu": 1,
}  # fmt: skip
_PLAIN = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Sqrt", "Reciprocal", "Neg", "Abs", "Sign",
    "Exp", "Log", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Ceil",
    "Floor", "Round", "Clip", "Where", "And", "Or", "Xor", "Not", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "IsNaN", "IsInf", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "CumSum",
)  # fmt: skip
_REDUCTIONS = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool", "AveragePool",
    "MaxPool", "TopK",
)  # fmt: skip


@handles(*_PLAIN, kind="elementwise")
def elementwise(call: Call) -> Cost:
    """One operation an element, and one for each further operand of Sum, Max and their like."""
    is_variadic = call.node.op_type in ("Sum", "Mean", "Max", "Min")
    return Cost(other_flops=float(call.output.elements * (max(len(call.inputs) - 1, 1) if is_variadic else 1)))


@handles(*(name for name in FLOPS if name not in ("FastGelu", "QuickGelu", "BiasGelu", "Silu")), kind="activation")
@handles("QuickGelu", "Gelu", kind="activation", domain=MICROSOFT)
def activation(call: Call) -> Cost:
    return Cost(other_flops=float(FLOPS[call.node.op_type] * call.output.elements))


@handles("BiasGelu", "FastGelu", kind="activation", domain=MICROSOFT)
def biased_gelu(call: Call) -> Cost:
    added = 1 if call.optional(1) is not None else 0
    return Cost(other_flops=float((GELU_FLOPS + added) * call.output.elements))


@handles("BiasSplitGelu", kind="activation", domain=MICROSOFT)
def biased_gate(call: Call) -> Cost:
    """One half gates the other: bias on both, GELU and a product on one."""
    return Cost(other_flops=float((GELU_FLOPS + 3) * call.output.elements))


@handles("BiasAdd", "BiasDropout", kind="elementwise", domain=MICROSOFT)
def biased_residual(call: Call) -> Cost:
    added = sum(value is not None for value in call.inputs[1:3])
    return Cost(other_flops=float(added * call.output.elements))


@handles("QLinearAdd", "QLinearMul", "QLinearWhere", kind="elementwise", domain=MICROSOFT)
def quantized_elementwise(call: Call) -> Cost:
    """Both operands are scaled, combined, and the result is scaled and rounded."""
    return Cost(other_flops=5.0 * call.output.elements)


@handles("QLinearSigmoid", "QLinearLeakyRelu", kind="activation", domain=MICROSOFT)
def quantized_activation(call: Call) -> Cost:
    """ONNX Runtime looks 8-bit results up in a table."""
    return Cost()


@handles(*_REDUCTIONS, kind="reduce")
def reduction(call: Call) -> Cost:
    return Cost(other_flops=float(call.input(0).elements))


@handles("QLinearReduceMean", "QLinearGlobalAveragePool", "QLinearAveragePool", kind="reduce", domain=MICROSOFT)
def quantized_reduction(call: Call) -> Cost:
    return Cost(other_flops=float(call.input(0).elements + 2 * call.output.elements))


@shapes("BiasGelu", "FastGelu", "QuickGelu", "Gelu", "BiasAdd", "BiasDropout", "QLinearSigmoid", "QLinearLeakyRelu")
def same_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))] * len(call.node.outputs)


@shapes("BiasSplitGelu")
def half_shape(call: Call) -> Outputs:
    shape = call.shape(0)
    return [(call.input(0).element_type, (*shape[:-1], shape[-1] // 2))]


@shapes("QLinearAdd", "QLinearMul")
def quantized_shape(call: Call) -> Outputs:
    """a, its scale and zero point, b, its scale and zero point, those of the result."""
    return [(call.input(0).element_type, broadcast(call.shape(0), call.shape(3)))]


@shapes("QLinearReduceMean")
def quantized_reduction_shape(call: Call) -> Outputs:
    shape = call.shape(0)
    axes = {axis % len(shape) for axis in call.attribute("axes", range(len(shape)))}
    keeps = bool(call.attribute("keepdims", 1))
    sizes = tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keeps or axis not in axes)
    return [(call.input(0).element_type, sizes)]
