"""Mixtures of experts that are one node: each token passes its few experts, whose weights are read once."""

from __future__ import annotations

from math import prod

from ridgeline_estimate.graph.model import Call
from ridgeline_estimate.graph.ops.elementwise import FLOPS
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

_ACTIVATIONS = {"relu": "Relu", "gelu": "Gelu", "silu": "Silu", "swiglu": "Silu", "identity": ""}


@handles("MoE", "QMoE", kind="matmul", domain=MICROSOFT)
def mixture(call: Call) -> Cost:
    """Input, router's logits, then weights of [experts, …]: those of two or three matrices, scales and biases.

    Of E experts and T tokens that pick k each, as many weights are read as are picked at most: min(E, T·k).
    """
    states, router = call.input(0), call.input(1)
    hidden, experts = states.known_shape[-1], router.known_shape[-1]
    tokens = states.elements // hidden
    picks = tokens * int(call.attribute("k", 1))
    stacked = [value for value in call.static_inputs if value.known_shape and value.known_shape[0] == experts]
    is_quantized = call.node.op_type == "QMoE"
    # Scales stand beside quantized weights, in floating point.
    matrices = [value for value in stacked if len(value.known_shape) == 3 and (value.format == "int8") == is_quantized]
    bits = int(call.attribute("expert_weight_bits", 8)) if is_quantized else 8
    elements_each = sum(prod(value.known_shape[1:]) for value in matrices) * (8 // bits)
    name = _ACTIVATIONS.get(str(call.attribute("activation_type", "relu")), "Relu")
    inner = elements_each // hidden // max(len(matrices), 1)
    dtype = "int8" if states.is_dequantized else call.output.format
    return Cost(
        matmul_flops=2.0 * picks * elements_each,
        other_flops=float(picks * (FLOPS.get(name, 0) * inner + 2 * hidden)),
        weight_bytes=sum(value.bytes for value in stacked) * min(picks, experts) / experts,
        parameters=elements_each * experts,
        part="feed_forward",
        dtype=dtype,
    )


@shapes("MoE", "QMoE")
def mixture_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))]
