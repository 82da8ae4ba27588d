"""LayerNormalization and RMSNorm written out, with the addition before them → AddNorm."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

from ridgeline_export.packed.fuse.surgery import graph_of, integers_constant, typed
from ridgeline_export.packed.fuse.transposes import keeps_last_axis
from ridgeline_export.packed.fuse.values import (
    DOMAIN,
    as_view,
    attribute_float,
    axis_of,
    dims,
    input_of,
    integers,
    is_weight,
    last_dim,
    producer,
    product_of,
    same_shape,
    scalar,
)


def _layer_norm(op, x, weight):  # type: ignore[no-untyped-def]
    return op.LayerNormalization(x, weight, _allow_other_inputs=True, _outputs=["out"])


def _rms_normalization(op, x, weight):  # type: ignore[no-untyped-def]
    return op.RMSNormalization(x, weight, _outputs=["out"])


def _from_op(kind: str):  # type: ignore[no-untyped-def]
    def rewrite(op, x, weight, out, **_):  # type: ignore[no-untyped-def]
        node, shape = out.producer(), dims(x)
        bias = input_of(node, 2)
        if shape is None or axis_of(node, len(shape)) != len(shape) - 1 or not _is_scale(weight, x):
            return None
        if (bias is not None and not _is_scale(bias, x)) or any(output.uses() for output in node.outputs[1:]):
            return None
        return _norm(op, x, weight, bias, kind, attribute_float(node, "epsilon", 1e-5))

    return rewrite


def _rms(op: Any, x: Any, axes: Any, two: Any, epsilon: Any, how: str) -> Any:
    """x / sqrt(mean(x²) + epsilon), as models write it: `how` is the way of the last step."""
    square = pattern.OrValue([op.Pow(x, two), op.Mul(x, x)])
    root = op.Sqrt(op.Add(op.ReduceMean(square, axes, _outputs=["mean"]), epsilon))
    if how == "reciprocal":
        return op.Mul(x, op.Reciprocal(root))
    if how == "quotient":
        return op.Mul(x, op.Div(pattern.Constant(1.0), root))
    return op.Div(x, root)


def _rms_weighted(how: str):  # type: ignore[no-untyped-def]
    def match(op, x, axes, two, epsilon, weight):  # type: ignore[no-untyped-def]
        return op.Mul(weight, _rms(op, x, axes, two, epsilon, how))

    return match


def _rms_alone(how: str):  # type: ignore[no-untyped-def]
    def match(op, x, axes, two, epsilon):  # type: ignore[no-untyped-def]
        return _rms(op, x, axes, two, epsilon, how)

    return match


def _from_rms(op, x, axes, epsilon, mean, two=None, weight=None, **_):  # type: ignore[no-untyped-def]
    shape, eps = dims(x), scalar(epsilon)
    reduced = integers(axes)
    if shape is None or eps is None or reduced is None or (two is not None and scalar(two) != 2.0):
        return None
    if [axis % len(shape) for axis in reduced] != [len(shape) - 1] or last_dim(mean) != 1:
        return None
    if weight is not None and not _is_scale(weight, x):
        return None
    return _norm(op, x, weight, None, "rms", eps)


def _is_scale(value: ir.Value, x: ir.Value) -> bool:
    return is_weight(value, 1) and last_dim(value) == last_dim(x) is not None


def _norm(
    op: Any, x: ir.Value, weight: ir.Value | None, bias: ir.Value | None, kind: str, epsilon: float
) -> ir.Value | None:
    """AddNorm without addition; rows of another rank than [1, T, dim], heads say, become tokens."""
    before = producer(x, "Transpose")
    if before is not None and before.inputs[0] is not None and keeps_last_axis(before):
        inner = _norm(op, before.inputs[0], weight, bias, kind, epsilon)
        if inner is None:
            return None
        inner.shape, inner.type = before.inputs[0].shape, x.type
        return op.Transpose(inner, perm=list(before.attributes["perm"].as_ints()))  # type: ignore[no-any-return]
    shape, target = dims(x), as_view(dims(x))
    if shape is None or target is None:
        return None
    attributes = {"kind": kind, "epsilon": epsilon}
    inputs = _present(None, weight, bias)
    if len(shape) == 3 and shape[0] == 1:
        return op.AddNorm(x, *inputs, **attributes, _domain=DOMAIN)  # type: ignore[no-any-return]
    graph, width = graph_of(x, weight), target[-1]
    rows_shape = [1, product_of(shape[:-1]), width]
    rows = typed(op.Reshape(x, integers_constant(graph, [1, -1, width])), x, rows_shape)
    out = typed(op.AddNorm(rows, *inputs, **attributes, _domain=DOMAIN), x, rows_shape)
    return op.Reshape(out, integers_constant(graph, target))  # type: ignore[no-any-return]


def _present(*inputs: ir.Value | None) -> list[ir.Value | None]:
    """The inputs but for absent ones at the end."""
    last = max((index for index, value in enumerate(inputs) if value is not None), default=-1)
    return list(inputs[: last + 1])


_WAYS = ("reciprocal", "quotient", "division")
NORMS = (
    pattern.RewriteRuleSet(
        [
            pattern.RewriteRule(_layer_norm, _from_op("layer"), name="LayerNorm"),
            pattern.RewriteRule(_rms_normalization, _from_op("rms"), name="RMSNormalization"),
        ]
    ),
    # With a weight first: the product with it is met after the norm that it belongs to.
    pattern.RewriteRuleSet(
        [pattern.RewriteRule(_rms_weighted(way), _from_rms, name=f"RMSNormWeight_{way}") for way in _WAYS], commute=True
    ),
    pattern.RewriteRuleSet(
        [pattern.RewriteRule(_rms_alone(way), _from_rms, name=f"RMSNorm_{way}") for way in _WAYS], commute=True
    ),
)


def _centred(op, x, axes):  # type: ignore[no-untyped-def]
    centred = op.Sub(x, op.ReduceMean(x, axes, _outputs=["mean"]))
    return op.AddNorm(centred, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["out"])


def _from_centred(op, x, axes, mean, out, **_):  # type: ignore[no-untyped-def]
    """RMSNorm of x - mean(x) is LayerNorm of x."""
    node, shape, reduced = out.producer(), dims(x), integers(axes)
    if shape is None or reduced is None or [axis % len(shape) for axis in reduced] != [len(shape) - 1]:
        return None
    if node.attributes["kind"].as_string() != "rms" or input_of(node, 1) is not None or last_dim(mean) != 1:
        return None
    return _norm(op, x, input_of(node, 2), None, "layer", node.attributes["epsilon"].as_float())


def _norm_plus(op, x, bias):  # type: ignore[no-untyped-def]
    return op.Add(op.AddNorm(x, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["out"]), bias)


def _with_bias(op, x, bias, out, **_):  # type: ignore[no-untyped-def]
    node = out.producer()
    if not _is_scale(bias, x) or any(input_of(node, index) is not None for index in (1, 3)) or len(node.outputs) != 1:
        return None
    if node.attributes["kind"].as_string() != "layer" or input_of(node, 2) is None:
        return None
    return _norm(op, x, input_of(node, 2), bias, "layer", node.attributes["epsilon"].as_float())


# LayerNorm written out: what is left of it once its RMSNorm is known.
CENTRED = (
    pattern.RewriteRuleSet([pattern.RewriteRule(_centred, _from_centred, name="CentredNorm")]),
    pattern.RewriteRuleSet([pattern.RewriteRule(_norm_plus, _with_bias, name="NormBias")], commute=True),
)


def _norm_of_sum(op, a, b):  # type: ignore[no-untyped-def]
    total = op.Add(a, b, _outputs=["total"])
    return op.AddNorm(total, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["out"])


def _norm_and_sum(op, a, b):  # type: ignore[no-untyped-def]
    total = op.Add(a, b, _outputs=["total"])
    return op.AddNorm(total, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["out"]), total


def _with_addition(op, a, b, out, **_):  # type: ignore[no-untyped-def]
    return _added(op, a, b, out, 1)


def _with_addition_kept(op, a, b, out, **_):  # type: ignore[no-untyped-def]
    return _added(op, a, b, out, 2)


def _added(op: Any, a: ir.Value, b: ir.Value, out: ir.Value, outputs: int) -> Any:
    node = out.producer()
    assert node is not None
    if input_of(node, 1) is not None or len(node.outputs) != 1 or not same_shape(a, b):
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    inputs = _present(a, b, input_of(node, 2), input_of(node, 3))
    return op.AddNorm(*inputs, **attributes, _domain=DOMAIN, _outputs=outputs)


ADDITIONS = (
    pattern.RewriteRuleSet([pattern.RewriteRule(_norm_of_sum, _with_addition, name="AddNorm")]),
    pattern.RewriteRuleSet([pattern.RewriteRule(_norm_and_sum, _with_addition_kept, name="AddNormSum")]),
)
