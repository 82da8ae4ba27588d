"""The other ops of the packed dialect (docs/dialect.json): a node of it is several of a padded graph in one kernel."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ridgeline_estimate.graph.model import FLOAT, FLOAT8, INT8, Call, Value
from ridgeline_estimate.graph.ops.elementwise import GELU_FLOPS, SIGMOID_FLOPS, SILU_FLOPS
from ridgeline_estimate.graph.ops.matmul import matmul_dtype, product_flops, product_shape, transposed
from ridgeline_estimate.graph.ops.normalization import LAYER_NORM_FLOPS, RMS_NORM_FLOPS
from ridgeline_estimate.graph.ops.quantization import DYNAMIC_QUANTIZE_FLOPS
from ridgeline_estimate.graph.registry import RIDGELINE, Cost, Outputs, handles, shapes

_ACTIVATIONS: Mapping[str, int] = {
    "none": 0, "relu": 1, "gelu": GELU_FLOPS, "gelu_tanh": GELU_FLOPS, "silu": SILU_FLOPS, "tanh": 1,
    "sigmoid": SIGMOID_FLOPS,
}  # fmt: skip
# Pool, for each element that goes in.
_POOLS: Mapping[str, int] = {"mean": 1, "max": 1, "mean_sqrt_len": 1, "weighted_mean": 2}
_L2_FLOPS = 3  # square, sum, scale


def _activation_flops(call: Call) -> int:
    return _ACTIVATIONS.get(str(call.attribute("activation", "none")), GELU_FLOPS)


@handles("Linear", kind="matmul", domain=RIDGELINE)
def linear(call: Call) -> list[Cost]:
    """x, weight [out, in], bias, residual."""
    added = sum(call.optional(index) is not None for index in (2, 3))
    return _linear(call, call.input(1), added, matmul_dtype(call.input(0), call.input(1), call.output), None)


@handles("QuantizedLinear", kind="matmul", domain=RIDGELINE)
def quantized_linear(call: Call) -> list[Cost]:
    """Codes, their scales, weights' codes [out, in], their scales, bias, residual: the sums are scaled twice."""
    added = 2 + sum(call.optional(index) is not None for index in (4, 5))
    return _linear(call, call.input(2), added, call.input(2).stored, (2, 4))


def _linear(call: Call, weight: Value, added: int, dtype: str, owned: tuple[int, ...] | None) -> list[Cost]:
    """added: operations on each element of the result, its activation aside."""
    columns = transposed(weight.known_shape, True)
    elements = prod(product_shape(call.shape(0), columns))
    product = Cost(
        matmul_flops=product_flops(call.shape(0), columns),
        other_flops=float(added * elements),
        dtype=dtype,
        owned=owned,
    )
    each = _activation_flops(call)
    if not each:
        return [product]
    activation = Cost(
        step="activation",
        part="activations",
        other_flops=float(each * elements),
        reads=(),
        writes=(),
        weights=(),
        fused=True,
    )
    return [product, activation]


@shapes("Linear", "QuantizedLinear", domain=RIDGELINE)
def linear_shape(call: Call) -> Outputs:
    is_quantized = call.node.op_type == "QuantizedLinear"
    weight = call.shape(2 if is_quantized else 1)
    kind = int(call.attribute("to", FLOAT)) if is_quantized else call.input(0).element_type
    return [(kind, product_shape(call.shape(0), transposed(weight, True)))]


@handles("QuantizeRows", kind="quantization", domain=RIDGELINE)
def quantize_rows(call: Call) -> Cost:
    """Magnitude, the largest of a row, scale, round."""
    return Cost(other_flops=float(DYNAMIC_QUANTIZE_FLOPS * call.input(0).elements), dtype=call.input(0).format)


@shapes("QuantizeRows", domain=RIDGELINE)
def quantize_rows_shape(call: Call) -> Outputs:
    codes = FLOAT8 if call.attribute("format", "int8") == "fp8" else INT8
    return [(codes, call.shape(0)), (FLOAT, call.shape(0)[:-1])]


@handles("EmbeddingLayerNorm", kind="lookup", domain=RIDGELINE)
def embedding_layer_norm(call: Call) -> Cost:
    """Ids and table of words, of positions, of types; weight, bias: rows are added, then normalized."""
    tables = [value for index in (1, 3, 5) if (value := call.optional(index)) is not None]
    vectors = [value for index in (6, 7) if (value := call.optional(index)) is not None]
    elements = call.output.elements
    rows = elements // call.output.known_shape[-1]
    each = len(tables) - 1 + (LAYER_NORM_FLOPS if call.attribute("normalize", 1) else 0)
    row_bytes = sum(value.bytes / value.known_shape[0] for value in tables)
    return Cost(
        other_flops=float(each * elements),
        weight_bytes=row_bytes * rows + sum(value.bytes for value in vectors),
        weights=[*tables, *vectors],
        part="embeddings",
    )


@shapes("EmbeddingLayerNorm", domain=RIDGELINE)
def embedding_layer_norm_shape(call: Call) -> Outputs:
    return [(call.input(1).element_type, (*call.shape(0), call.shape(1)[-1]))]


@handles("AddNorm", kind="norm", domain=RIDGELINE)
def add_norm(call: Call) -> Cost:
    """x, residual, weight, bias; the sum is a second output where somebody reads it."""
    each = RMS_NORM_FLOPS if call.attribute("kind", "layer") == "rms" else LAYER_NORM_FLOPS
    each += call.optional(1) is not None
    return Cost(other_flops=float(each * call.input(0).elements))


@shapes("AddNorm", domain=RIDGELINE)
def add_norm_shape(call: Call) -> Outputs:
    return [(call.input(0).element_type, call.shape(0))] * 2


@handles("GatedActivation", kind="activation", domain=RIDGELINE)
def gated_activation(call: Call) -> Cost:
    return Cost(other_flops=float((_activation_flops(call) + 1) * call.output.elements))


@shapes("GatedActivation", domain=RIDGELINE)
def gated_activation_shape(call: Call) -> Outputs:
    shape = call.shape(0)
    return [(call.input(0).element_type, (*shape[:-1], shape[-1] // 2))]


@handles("Pool", kind="reduce", domain=RIDGELINE)
def pool(call: Call) -> Cost:
    """States and bounds; the first or last token of each sequence is read alone."""
    states, given = call.input(0), call.output.elements
    each = _POOLS.get(str(call.attribute("method", "mean")), 0)
    scaled = _L2_FLOPS * given if call.attribute("normalize", 0) else 0
    # A mean is divided once for each element that it gives.
    divided = given if each and call.attribute("method", "mean") != "max" else 0
    read = states.bytes if each else states.bytes / max(states.elements, 1) * given
    return Cost(
        other_flops=float(each * states.elements + divided + scaled),
        read_bytes=read + call.input(1).bytes,
    )


@shapes("Pool", domain=RIDGELINE)
def pool_shape(call: Call) -> Outputs:
    return [(int(call.attribute("to", FLOAT)), (call.shape(1)[0] - 1, call.shape(0)[-1]))]
