"""Quantization: scaling and rounding, per element.

A DequantizeLinear costs nothing of its own: what reads its output reads the integers, and a matmul multiplies them.
"""

from __future__ import annotations

from ridgeline_estimate.graph.model import Call
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

QUANTIZE_FLOPS = 2  # scale, round
DYNAMIC_QUANTIZE_FLOPS = 4  # least and greatest, scale, round


@handles("QuantizeLinear", kind="quantization")
@handles("QuantizeLinear", kind="quantization", domain=MICROSOFT)
def quantize(call: Call) -> Cost:
    return Cost(other_flops=float(QUANTIZE_FLOPS * call.input(0).elements), dtype=call.input(0).format)


@handles("DynamicQuantizeLinear", kind="quantization")
def dynamic_quantize(call: Call) -> Cost:
    return Cost(other_flops=float(DYNAMIC_QUANTIZE_FLOPS * call.input(0).elements), dtype=call.input(0).format)


@handles("DequantizeLinear", kind="view")
@handles("DequantizeLinear", kind="view", domain=MICROSOFT)
def dequantize(call: Call) -> None:
    return None


@shapes("QuantizeLinear", "DequantizeLinear")
def quantize_shape(call: Call) -> Outputs:
    other = call.optional(2 if call.node.op_type == "QuantizeLinear" else 1)
    return [(other.element_type if other is not None else 2, call.shape(0))]
