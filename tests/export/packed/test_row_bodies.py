"""The bodies of the token-wise ops against numpy in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.export.packed.one_op import BF16, Array, assert_close, run_op

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}
DTYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": BF16}


def normal(rng: np.random.Generator, *shape: int, dtype: np.dtype[Any], scale: float = 1.0) -> Array:
    return rng.normal(0, scale, shape).astype(dtype)


def normalized(x: Array, weight: Array | None, bias: Array | None, epsilon: float, kind: str = "layer") -> Array:
    if kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@pytest.mark.parametrize(
    ("dtype", "present", "attributes", "with_sum"),
    [
        ("fp32", "residual weight bias", {}, True),
        ("fp32", "", {"kind": "rms", "epsilon": 0.3}, False),
        ("fp16", "residual weight bias", {"epsilon": 1e-12}, False),
        ("fp16", "weight", {"kind": "rms", "weight_offset": 1.0}, True),
        ("bf16", "residual weight", {"kind": "rms", "epsilon": 1e-6}, True),
        ("fp32", "bias", {}, False),
        ("fp16", "residual", {}, True),
        ("fp32", "weight", {"weight_offset": 0.5, "kind": "layer"}, False),
    ],
)
def test_add_norm(dtype: str, present: str, attributes: dict[str, Any], with_sum: bool) -> None:
    rng = np.random.default_rng(3)
    inputs = {"x": normal(rng, 1, 5, 7, dtype=DTYPES[dtype], scale=3)}
    for name in present.split():
        shape = (1, 5, 7) if name == "residual" else (7,)
        inputs[name] = normal(rng, *shape, dtype=DTYPES[dtype])
    found = run_op("AddNorm", inputs, attributes, ["sum"] if with_sum else [])

    wide = {name: array.astype(np.float64) for name, array in inputs.items()}
    total = wide["x"] + wide.get("residual", 0.0)
    weight = wide["weight"] + attributes.get("weight_offset", 0.0) if "weight" in wide else None
    out = normalized(total, weight, wide.get("bias"), attributes.get("epsilon", 1e-5), attributes.get("kind", "layer"))
    for array, wanted in zip(found, [out, total] if with_sum else [out], strict=True):
        assert_close(array, wanted, DTYPES[dtype])


def test_the_sum_is_normalized_before_it_is_rounded() -> None:
    x = np.array([[[1024.0, 1024.0, 1024.0, 1024.0]]], np.float16)
    residual = np.array([[[0.0, 0.1, 0.2, 0.3]]], np.float16)
    out, total = run_op("AddNorm", {"x": x, "residual": residual}, {}, ["sum"])
    assert (total == 1024).all()
    np.testing.assert_allclose(out[0, 0].astype(float), [-1.342, -0.447, 0.447, 1.342], atol=5e-3)


@pytest.mark.parametrize(
    ("dtype", "present", "attributes"),
    [
        ("fp32", "position token_type token_type_ids weight bias", {}),
        ("fp16", "position weight bias", {"epsilon": 1e-5}),
        ("fp32", "position token_type weight", {"normalize": 1}),
        ("bf16", "token_type token_type_ids", {"normalize": 0}),
        ("fp16", "", {}),
        ("fp32", "token_type", {"normalize": 0}),
    ],
)
def test_embedding(dtype: str, present: str, attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    rows = {"word": 11, "position": 9, "token_type": 2}
    inputs = {"input_ids": rng.integers(0, 11, (1, 6)), "word": normal(rng, 11, 5, dtype=DTYPES[dtype])}
    for name in present.split():
        if name == "token_type_ids":
            inputs[name] = rng.integers(0, 2, (1, 6))
        else:
            shape = (rows[name], 5) if name in rows else (5,)
            inputs[name] = normal(rng, *shape, dtype=DTYPES[dtype])
    if "position" in inputs:
        inputs["position_ids"] = rng.integers(0, 9, (1, 6))
    [out] = run_op("EmbeddingLayerNorm", inputs, attributes)

    wide = {name: array.astype(np.float64) if "ids" not in name else array for name, array in inputs.items()}
    total = wide["word"][inputs["input_ids"]]
    if "token_type" in inputs:
        total = total + wide["token_type"][inputs.get("token_type_ids", np.zeros((1, 6), np.int64))]
    if "position" in inputs:
        total = total + wide["position"][inputs["position_ids"]]
    if attributes.get("normalize", 1):
        total = normalized(total, wide.get("weight"), wide.get("bias"), attributes.get("epsilon", 1e-12))
    assert_close(out, total, DTYPES[dtype])


@pytest.mark.parametrize(
    ("dtype", "present", "activation"),
    [
        ("fp32", "bias residual", "gelu"),
        ("fp16", "", "relu"),
        ("fp32", "residual", "silu"),
        ("fp16", "bias", "gelu_tanh"),
        ("bf16", "bias", "tanh"),
        ("fp16", "bias residual", "none"),
        ("fp32", "", "sigmoid"),
    ],
)
def test_linear(dtype: str, present: str, activation: str) -> None:
    rng = np.random.default_rng(5)
    inputs = {
        "x": normal(rng, 1, 4, 9, dtype=DTYPES[dtype]),
        "weight": normal(rng, 6, 9, dtype=DTYPES[dtype]),
    }
    inputs |= {"bias": normal(rng, 6, dtype=DTYPES[dtype])} if "bias" in present else {}
    inputs |= {"residual": normal(rng, 1, 4, 6, dtype=DTYPES[dtype])} if "residual" in present else {}
    [y] = run_op("Linear", inputs, {"activation": activation})
    wide = {name: array.astype(np.float64) for name, array in inputs.items()}
    wanted = ACTIVATIONS[activation](wide["x"] @ wide["weight"].T + wide.get("bias", 0.0)) + wide.get("residual", 0.0)
    assert_close(y, wanted, DTYPES[dtype])


def test_sums_of_a_linear_pass_float16s_range() -> None:
    x = np.full((1, 1, 4), 250.0, np.float16)
    weight = np.array([[250.0, 250.0, -250.0, -249.5]], np.float16)
    [y] = run_op("Linear", {"x": x, "weight": weight}, {})
    assert y.item() == 125.0


@pytest.mark.parametrize("activation", [*ACTIVATIONS])
@pytest.mark.parametrize("gate_first", [0, 1])
def test_gated_activation(activation: str, gate_first: int) -> None:
    rng = np.random.default_rng(6)
    dtype = DTYPES["fp16" if gate_first else "fp32"]
    gate_up = normal(rng, 1, 3, 10, dtype=dtype)
    attributes = {"activation": activation} | ({} if gate_first else {"gate_first": 0})
    [out] = run_op("GatedActivation", {"gate_up": gate_up}, attributes)
    first, second = np.split(gate_up.astype(np.float64), 2, axis=-1)
    gate, up = (first, second) if gate_first else (second, first)
    assert_close(out, ACTIVATIONS[activation](gate) * up, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("half", [4, 2])
def test_rotary(dtype: str, interleaved: int, half: int) -> None:
    rng = np.random.default_rng(7)
    q, k = (normal(rng, 1, 5, heads, 8, dtype=DTYPES[dtype]) for heads in (4, 2))
    angles = rng.normal(0, 3, (1, 5, half))
    tables = {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    found = run_op("Rotary", {"q": q, "k": k} | tables, {"interleaved": interleaved} if interleaved else {})
    turn = np.exp(1j * angles)[:, :, None, :]
    for array, x in zip(found, (q, k), strict=True):
        wanted = x.astype(np.float64)
        firsts = slice(0, 2 * half, 2) if interleaved else slice(0, half)
        seconds = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
        turned = (wanted[..., firsts] + 1j * wanted[..., seconds]) * turn
        wanted[..., firsts], wanted[..., seconds] = turned.real, turned.imag
        assert_close(array, wanted, DTYPES[dtype])
