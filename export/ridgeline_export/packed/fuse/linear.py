"""MatMul and Gemm by a weight, with bias, activation and residual → Linear."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

from ridgeline_export.packed.fuse.surgery import graph_of, integers_constant, typed
from ridgeline_export.packed.fuse.values import (
    DOMAIN,
    as_view,
    attribute_float,
    attribute_int,
    attribute_string,
    dims,
    input_of,
    is_weight,
    producer,
    same_shape,
)
from ridgeline_export.packed.fuse.weights import Weights


def linear_rules(weights: Weights) -> tuple[pattern.RewriteRuleSet, ...]:
    """Rule sets in order: a product with its bias first, since products are met before what is added to them."""

    def with_bias(op, x, weight, bias, out, **_):  # type: ignore[no-untyped-def]
        columns = dims(weight)
        if not is_matrix(weight) or columns is None or not _is_row(bias, columns[1]):
            return None
        return _linear(op, weights, x, weight, bias, out, is_transposed=False)

    def product(op, x, weight, out, **_):  # type: ignore[no-untyped-def]
        return _linear(op, weights, x, weight, None, out, is_transposed=False) if is_matrix(weight) else None

    def gemm(op, x, weight, out, **_):  # type: ignore[no-untyped-def]
        node = out.producer()
        bias = input_of(node, 2)
        is_transposed = attribute_int(node, "transB", 0) == 1
        columns = dims(weight)
        if attribute_int(node, "transA", 0) or attribute_float(node, "alpha", 1.0) != 1.0 or not is_matrix(weight):
            return None
        if bias is not None:
            assert columns is not None
            if attribute_float(node, "beta", 1.0) != 1.0 or not _is_row(bias, columns[0 if is_transposed else 1]):
                return None
        return _linear(op, weights, x, weight, bias, out, is_transposed=is_transposed)

    def matmul_add(op, x, weight, bias):  # type: ignore[no-untyped-def]
        return op.Add(op.MatMul(x, weight), bias, _outputs=["out"])

    def matmul(op, x, weight):  # type: ignore[no-untyped-def]
        return op.MatMul(x, weight, _outputs=["out"])

    def any_gemm(op, x, weight):  # type: ignore[no-untyped-def]
        return op.Gemm(x, weight, _allow_other_inputs=True, _outputs=["out"])

    return (
        pattern.RewriteRuleSet([pattern.RewriteRule(matmul_add, with_bias, name="MatMulAdd")], commute=True),
        pattern.RewriteRuleSet(
            [pattern.RewriteRule(matmul, product, name="MatMul"), pattern.RewriteRule(any_gemm, gemm, name="Gemm")]
        ),
    )


def is_matrix(value: ir.Value) -> bool:
    """A weight of two axes, or the transposition of one."""
    before = producer(value, "Transpose")
    return is_weight(value if before is None else before.inputs[0], 2)


def _is_row(value: ir.Value | None, columns: int | str | None) -> bool:
    """A constant [columns], axes of size 1 before it aside."""
    shape = dims(value)
    if not shape or value is None or value.const_value is None or value.is_graph_input():
        return False
    return shape[-1] == columns and all(dim == 1 for dim in shape[:-1])


def _linear(
    op: Any,
    weights: Weights,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    out: ir.Value,
    *,
    is_transposed: bool,
) -> ir.Value | None:
    """Linear of a token-wise product; one of rank 2 has its rows as tokens."""
    shape, target = dims(x), as_view(dims(out))
    matrix = dims(weight)
    if shape is None or target is None or matrix is None or shape[-1] != matrix[1 if is_transposed else 0]:
        return None
    is_tokens = len(shape) == 3 and shape[0] == 1
    if not is_tokens and len(shape) != 2:
        return None
    before = dims(out)
    assert before is not None
    if bias is not None and len(before) != len(shape):
        return None
    table = weight if is_transposed else weights.transposed(weight, bias)
    row = None if bias is None else weights.flat(bias)
    inputs = [table] if row is None else [table, row]
    if is_tokens:
        return op.Linear(x, *inputs, _domain=DOMAIN)  # type: ignore[no-any-return]
    graph = graph_of(x, weight)
    rows = typed(op.Reshape(x, integers_constant(graph, [1, *_dynamic(shape)])), x, [1, *shape])
    y = typed(op.Linear(rows, *inputs, _domain=DOMAIN), x, [1, *before])
    return op.Reshape(y, integers_constant(graph, target))  # type: ignore[no-any-return]


def _dynamic(shape: tuple[int | str | None, ...]) -> list[int]:
    return [dim if isinstance(dim, int) else -1 for dim in shape]


def _with_activation(name: str):  # type: ignore[no-untyped-def]
    def rewrite(op, y, out, **_):  # type: ignore[no-untyped-def]
        node = y.producer()
        if attribute_string(node, "activation", "none") != "none" or input_of(node, 3) is not None:
            return None
        chosen = name
        if name == "gelu":
            tanh = attribute_string(out.producer(), "approximate", "none") == "tanh"
            chosen = "gelu_tanh" if tanh else "gelu"
        return op.Linear(*node.inputs, activation=chosen, _domain=DOMAIN)

    return rewrite


def _activated(op_type: str):  # type: ignore[no-untyped-def]
    def match(op, x, weight):  # type: ignore[no-untyped-def]
        y = op.Linear(x, weight, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["y"])
        return getattr(op, op_type)(y, _outputs=["out"])

    return match


def _silu_of_linear(op, x, weight):  # type: ignore[no-untyped-def]
    y = op.Linear(x, weight, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["y"])
    return op.Mul(y, op.Sigmoid(y), _outputs=["out"])


# SiLU before Sigmoid, which is a part of it.
ACTIVATIONS = pattern.RewriteRuleSet(
    [pattern.RewriteRule(_silu_of_linear, _with_activation("silu"), name="LinearSilu")]
    + [
        pattern.RewriteRule(_activated(op_type), _with_activation(op_type.lower()), name=f"Linear{op_type}")
        for op_type in ("Gelu", "Relu", "Tanh", "Sigmoid")
    ],
    commute=True,
)


def _linear_plus(op, x, weight, residual):  # type: ignore[no-untyped-def]
    y = op.Linear(x, weight, _allow_other_inputs=True, _domain=DOMAIN, _outputs=["y"])
    return op.Add(y, residual, _outputs=["out"])


def _with_residual(op, y, residual, out, **_):  # type: ignore[no-untyped-def]
    node = y.producer()
    if input_of(node, 3) is not None or not same_shape(y, residual):
        return None
    x, weight, bias = node.inputs[0], node.inputs[1], input_of(node, 2)
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return op.Linear(x, weight, bias, residual, **attributes, _domain=DOMAIN)


RESIDUALS = pattern.RewriteRuleSet([pattern.RewriteRule(_linear_plus, _with_residual, name="LinearAdd")], commute=True)
