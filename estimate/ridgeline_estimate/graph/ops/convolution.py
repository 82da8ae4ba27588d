"""Convolutions: a matrix product at each place of the result."""

from __future__ import annotations

from math import prod

from ridgeline_estimate.graph.model import Call, Shape
from ridgeline_estimate.graph.ops.matmul import activation_flops, matmul_dtype
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, handles


def _flops(result: Shape, weight: Shape) -> float:
    """result: [batch, out, …]; weight: [out, in ÷ groups, …]"""
    return 2.0 * prod(result) * prod(weight[1:])


@handles("Conv", "ConvInteger", kind="convolution")
@handles("FusedConv", kind="convolution", domain=MICROSOFT)
def conv(call: Call) -> Cost:
    result = call.output.known_shape
    elements = prod(result)
    bias = elements if call.node.op_type != "ConvInteger" and call.optional(2) is not None else 0
    return Cost(
        matmul_flops=_flops(result, call.shape(1)),
        other_flops=bias + activation_flops(call, elements),
        dtype=matmul_dtype(call.input(0), call.input(1), call.output),
    )


@handles("ConvTranspose", kind="convolution")
def conv_transpose(call: Call) -> Cost:
    """weight: [in, out ÷ groups, …]; each element of the input meets each of its channel's weights."""
    bias = call.output.elements if call.optional(2) is not None else 0
    return Cost(
        matmul_flops=2.0 * call.input(0).elements * prod(call.shape(1)[1:]),
        other_flops=float(bias),
        dtype=matmul_dtype(call.input(0), call.input(1), call.output),
    )


@handles("QLinearConv", kind="convolution")
@handles("QLinearConv", kind="convolution", domain=MICROSOFT)
def qlinear_conv(call: Call) -> Cost:
    """x, its scale and zero point, w, its scale and zero point, those of the result, bias."""
    result = call.output.known_shape
    bias = 1 if call.optional(8) is not None else 0
    return Cost(
        matmul_flops=_flops(result, call.shape(3)),
        other_flops=(2.0 + bias) * prod(result),
        dtype="int8",
        owned=(3, 8),
    )
