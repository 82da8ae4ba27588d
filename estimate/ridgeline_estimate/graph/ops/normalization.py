"""Normalizations and softmax, per element: see ridgeline_estimate.flops."""

from __future__ import annotations

from ridgeline_estimate.graph.model import FLOAT, Call
from ridgeline_estimate.graph.registry import MICROSOFT, Cost, Outputs, handles, shapes

LAYER_NORM_FLOPS = 5
RMS_NORM_FLOPS = 4  # without the mean: square and sum, root, scale
SOFTMAX_FLOPS = 5


@handles("LayerNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization", kind="norm")
def layer_norm(call: Call) -> Cost:
    return Cost(other_flops=float(LAYER_NORM_FLOPS * call.input(0).elements))


@handles("RMSNormalization", "SimplifiedLayerNormalization", "LpNormalization", kind="norm")
@handles("SimplifiedLayerNormalization", kind="norm", domain=MICROSOFT)
def rms_norm(call: Call) -> Cost:
    return Cost(other_flops=float(RMS_NORM_FLOPS * call.input(0).elements))


@handles("SkipLayerNormalization", kind="norm", domain=MICROSOFT)
def skip_layer_norm(call: Call) -> Cost:
    """Input, skip, gamma, beta, bias: both additions happen inside."""
    added = 2 if call.optional(4) is not None else 1
    return Cost(other_flops=float((LAYER_NORM_FLOPS + added) * call.input(0).elements))


@handles("SkipSimplifiedLayerNormalization", kind="norm", domain=MICROSOFT)
def skip_rms_norm(call: Call) -> Cost:
    """Input, skip, gamma, bias."""
    added = 2 if call.optional(3) is not None else 1
    return Cost(other_flops=float((RMS_NORM_FLOPS + added) * call.input(0).elements))


@handles("Softmax", "LogSoftmax", "Hardmax", kind="softmax")
def softmax(call: Call) -> Cost:
    return Cost(other_flops=float(SOFTMAX_FLOPS * call.input(0).elements))


@handles("BiasSoftmax", kind="softmax", domain=MICROSOFT)
@handles("QLinearSoftmax", kind="softmax", domain=MICROSOFT)
def added_softmax(call: Call) -> Cost:
    """An addition before, or a scaling after."""
    return Cost(other_flops=float((SOFTMAX_FLOPS + 1) * call.input(0).elements))


# ONNX Runtime puts fused norms in the standard domain too, whatever opset the file has.
@shapes("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization", domain="")
@shapes("SimplifiedLayerNormalization")
def norm_shape(call: Call) -> Outputs:
    shape = call.shape(0)
    axis = int(call.attribute("axis", -1)) % len(shape)
    reduced = (*shape[:axis], *(1 for _ in shape[axis:]))
    return [(call.input(0).element_type, shape), (FLOAT, reduced), (FLOAT, reduced)]


@shapes("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_norm_shape(call: Call) -> Outputs:
    shape, element_type = call.shape(0), call.input(0).element_type
    reduced = (*shape[:-1], 1)
    return [(element_type, shape), (FLOAT, reduced), (FLOAT, reduced), (element_type, shape)]


@shapes("BiasSoftmax", "QLinearSoftmax")
def softmax_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))]
