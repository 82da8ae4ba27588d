"""The bodies of QuantizeRows and QuantizedLinear: codes to the bit, int8 sums exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.export.packed.one_op import BF16, FP8, Array, assert_close, run_op
from tests.export.packed.test_row_bodies import ACTIVATIONS

LARGEST = {"int8": np.float32(127), "fp8": np.float32(448)}


def codes_of(x: Array, format: str) -> tuple[Array, Array]:
    x = x.astype(np.float32)
    scale = np.abs(x).max(-1) / LARGEST[format]
    scale = np.where(scale == 0, np.float32(1), scale)
    scaled = np.clip(x / scale[..., None], -LARGEST[format], LARGEST[format])
    codes = np.rint(scaled) if format == "int8" else scaled.astype(FP8)
    return codes.astype(np.float32), scale


@pytest.mark.parametrize("format", ["int8", "fp8"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16])
def test_quantize_rows(format: str, dtype: Any) -> None:
    rng = np.random.default_rng(8)
    x = (rng.normal(size=(1, 6, 33)) * np.array([1, 1e-3, 50, 1, 1, 1])[:, None]).astype(dtype)
    x[0, 3] = 0
    x[0, 4, :5] = [127, 0.5, 1.5, -2.5, 126.5]  # at scale 1, or 127 / 448: halves round to even
    x[0, 4, 5:] = 0
    codes, scale = run_op("QuantizeRows", {"x": x}, {"format": format})
    wanted, wanted_scale = codes_of(x, format)
    np.testing.assert_array_equal(scale, wanted_scale)
    np.testing.assert_array_equal(codes, wanted)
    assert scale[0, 3] == 1
    assert (codes[0, 3] == 0).all()
    if format == "int8":
        assert codes[0, 4, :5].tolist() == [127, 0, 2, -2, 126]


def test_a_row_of_the_smallest_numbers() -> None:
    x = np.full((1, 1, 3), 1e-45, np.float32)
    codes, scale = run_op("QuantizeRows", {"x": x}, {"format": "int8"})
    assert (scale.item(), codes.tolist()) == (1.0, [[[0, 0, 0]]])


@pytest.mark.parametrize(
    ("format", "present", "activation", "to"),
    [
        ("int8", "bias residual", "gelu", np.float16),
        ("int8", "", "none", np.float32),
        ("int8", "bias", "silu", BF16),
        ("fp8", "bias", "relu", np.float32),
        ("fp8", "residual", "none", np.float16),
        ("fp8", "bias residual", "gelu_tanh", BF16),
    ],
)
def test_quantized_linear(format: str, present: str, activation: str, to: Any) -> None:
    rng = np.random.default_rng(9)
    kept = np.int8 if format == "int8" else FP8
    codes, scale = codes_of(rng.normal(size=(1, 5, 40)), format)
    weight_codes, weight_scale = codes_of(rng.normal(size=(7, 40)), format)
    inputs: dict[str, Array] = {
        "codes": codes.astype(kept),
        "scale": scale,
        "weight_codes": weight_codes.astype(kept),
        "weight_scale": weight_scale,
    }
    inputs |= {"bias": rng.normal(size=7).astype(np.float32 if format == "int8" else to)} if "bias" in present else {}
    inputs |= {"residual": rng.normal(size=(1, 5, 7)).astype(to)} if "residual" in present else {}
    attributes = {"format": format, "activation": activation, "to": {np.float32: 1, np.float16: 10}.get(to, 16)}
    [y] = run_op("QuantizedLinear", inputs, attributes)
    wanted = (codes * scale[..., None]).astype(np.float64) @ (weight_codes * weight_scale[:, None]).T.astype(np.float64)
    wanted = ACTIVATIONS[activation](wanted + inputs.get("bias", np.float32(0)).astype(np.float64))
    assert_close(y, wanted + inputs.get("residual", np.float32(0)).astype(np.float64), np.dtype(to))


def test_int8_sums_are_exact() -> None:
    rng = np.random.default_rng(10)
    codes = rng.choice([-127, 126, 127], (1, 3, 4096)).astype(np.int8)
    weight_codes = rng.choice([-127, 127], (2, 4096)).astype(np.int8)
    codes[0, 0] = 127
    weight_codes[0] = 127
    codes[0, 1], weight_codes[1] = codes[0, 1], np.where(codes[0, 1] > 0, 127, -127)
    exact = codes[0].astype(np.int64) @ weight_codes.T.astype(np.int64)
    # A float32 sum of this length loses the last bits; scales of 2^-4 keep what float32 holds of the exact one.
    ones = {"scale": np.full((1, 3), 0.25, np.float32), "weight_scale": np.full(2, 0.25, np.float32)}
    [y] = run_op("QuantizedLinear", {"codes": codes, "weight_codes": weight_codes} | ones, {"format": "int8", "to": 1})
    assert exact.max() == 127 * 127 * 4096
    np.testing.assert_array_equal(y[0], exact.astype(np.float32) / 16)
