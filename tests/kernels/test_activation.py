"""Bias and activation, as they are and quantized."""

from __future__ import annotations

import functools

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.activation import (
    WIDEST_QUANTIZED_ROW_BYTES,
    bias_activation,
    bias_activation_reference,
    quantized_bias_activation,
)
from ridgeline_kernels.fused.quantize import quantize_rows
from ridgeline_kernels.language.activations import ACTIVATIONS
from tests.kernels.closeness import assert_as_near_as_reference, assert_same_codes


@pytest.mark.parametrize(
    ("tokens", "dim", "activation", "dtype"),
    [
        (1, 1, "gelu", torch.float32),
        (2, 63, "gelu_tanh", torch.float16),
        (65, 100, "relu", torch.float16),
        (7, 384, "gelu", torch.float16),
        (64, 1152, "gelu", torch.float32),
        (3, 3072, "gelu_tanh", torch.float32),
        (5, 4096, "silu", torch.float16),
        (127, 80, "tanh", torch.float32),
        (1000, 32, "sigmoid", torch.float32),
        (2, 2624, "none", torch.float16),
    ],
)
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
def test_it_is_the_reference_s(
    device: torch.device, tokens: int, dim: int, activation: str, dtype: torch.dtype, has_bias: bool
) -> None:
    x = torch.randn(tokens, dim, device=device).mul(3).to(dtype)
    bias = torch.randn(dim, device=device).to(dtype) if has_bias else None
    out = bias_activation(x, bias, activation)
    assert out.dtype == dtype
    assert_as_near_as_reference(out, bias_activation_reference, x, bias, activation)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_bf16(device: torch.device, activation: str) -> None:
    x, bias = torch.randn(33, 768, device=device).bfloat16(), torch.randn(768, device=device).bfloat16()
    out = bias_activation(x, bias, activation)
    # The interpreter truncates to bf16: one step.
    truth = bias_activation_reference(x.double(), bias.double(), activation)
    torch.testing.assert_close(out.double(), truth, rtol=2**-7, atol=1e-7)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_whole_range_of_an_activation(device: torch.device, activation: str) -> None:
    x = torch.linspace(-30, 30, 6001, device=device)[None, :]
    out = bias_activation(x, None, activation)
    truth = ACTIVATIONS[activation](x.double())
    torch.testing.assert_close(out.double(), truth, rtol=1e-6, atol=4e-7)


def test_tanh_keeps_the_digits_of_small_numbers(device: torch.device) -> None:
    x = torch.logspace(-30, 0, 2001, device=device)[None, :]
    out = bias_activation(torch.cat([x, -x]), None, "tanh")
    torch.testing.assert_close(out.double(), torch.tanh(torch.cat([x, -x]).double()), rtol=4e-7, atol=0)
    uniform = torch.rand(4, 1000, device=device) * 2 - 1
    assert_as_near_as_reference(
        bias_activation(uniform, None, "tanh"), bias_activation_reference, uniform, None, "tanh"
    )


def test_gelu_is_more_exact_than_by_erf_in_fp32(device: torch.device) -> None:
    x = torch.linspace(-9, 9, 20001, device=device)[None, :]
    truth = torch.nn.functional.gelu(x.double())
    error = (bias_activation(x, None, "gelu") - truth).abs().max()
    assert error <= (torch.nn.functional.gelu(x) - truth).abs().max()


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_tanh", "silu"])
def test_infinity_and_nan_are_not_hidden(device: torch.device, activation: str) -> None:
    x = torch.tensor([[float("nan"), float("inf"), 1.0]], device=device)
    out = bias_activation(x, None, activation)[0]
    assert out[0].isnan()
    assert out[1] == float("inf")
    assert out[2] > 0.5


def test_strided_rows_a_row_s_independence_and_no_rows(device: torch.device) -> None:
    wide, bias = torch.randn(9, 640, device=device), torch.randn(256, device=device)
    out = bias_activation(wide[:, 128:384], bias, "gelu")
    torch.testing.assert_close(out, bias_activation_reference(wide[:, 128:384], bias, "gelu"))
    order = torch.randperm(9, device=device)
    assert torch.equal(bias_activation(wide[order, 128:384], bias, "gelu"), out[order])
    assert bias_activation(wide[:0], None).shape == (0, 640)
    assert quantized_bias_activation(wide[:0], None)[1].shape == (0,)


@pytest.mark.parametrize(
    ("tokens", "dim", "format", "dtype"),
    [
        (1, 1, "int8", torch.float16),
        (3, 100, "fp8", torch.float16),
        (5, 768, "int8", torch.float32),
        (2, 3072, "int8", torch.float16),
        (2, 4096, "fp8", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("activation", ["gelu", "sigmoid"])
def test_codes_are_those_of_the_rounded_result(
    device: torch.device, tokens: int, dim: int, format: str, dtype: torch.dtype, activation: str
) -> None:
    x, bias = torch.randn(tokens, dim, device=device).to(dtype), torch.randn(dim, device=device).to(dtype)
    codes, scale = quantized_bias_activation(x, bias, activation, format=format)
    expected, expected_scale = quantize_rows(bias_activation(x, bias, activation), format)
    assert_same_codes(codes, scale, expected, expected_scale, dtype)


def test_a_row_too_wide_for_registers_takes_two_passes(device: torch.device) -> None:
    x = torch.randn(1, WIDEST_QUANTIZED_ROW_BYTES // 4 + 1, device=device)
    codes, scale = quantized_bias_activation(x, None, "relu")
    expected, expected_scale = quantize_rows(bias_activation(x, None, "relu"))
    assert torch.equal(codes, expected)
    assert torch.equal(scale, expected_scale)


def test_without_a_bias_it_is_a_copy_on_the_cpu_too() -> None:
    x = torch.randn(3, 4)
    out = bias_activation(x, None, "none")
    assert torch.equal(out, x)
    assert out.data_ptr() != x.data_ptr()


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the last dimension of x is 0; it must be at least 1"):
        quantized_bias_activation(torch.zeros(3, 0))


def test_errors_name_the_argument() -> None:
    x = torch.randn(3, 8)
    with pytest.raises(ArgumentError, match="activation is 'swish'; allowed: 'none', 'relu', 'gelu'"):
        bias_activation(x, None, "swish")
    with pytest.raises(ArgumentError, match=r"bias has shape \[4\]; it must be \[8\]"):
        bias_activation(x, torch.randn(4))
    with pytest.raises(ArgumentError, match="bias has dtype float16 and must have that of x, float32"):
        bias_activation(x, torch.randn(8).half())
    with pytest.raises(ArgumentError, match="x is strided along its last axis"):
        bias_activation(torch.randn(8, 3).t())
    quantized = functools.partial(quantized_bias_activation, x, None)
    with pytest.raises(ArgumentError, match="format is 'int4'"):
        quantized(format="int4")
