"""Gated activations, as they are and quantized."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.gated import (
    gated_activation,
    gated_activation_reference,
    geglu,
    quantized_gated_activation,
    swiglu,
)
from ridgeline_kernels.fused.quantize import quantize_rows
from ridgeline_kernels.op import kernels_everywhere
from tests.kernels.closeness import assert_as_near_as_reference, assert_same_codes


@pytest.mark.parametrize(
    ("tokens", "dim", "activation", "dtype", "has_bias", "gate_first"),
    [
        (1, 1, "silu", torch.float32, True, True),
        (2, 63, "gelu", torch.float16, True, False),
        (65, 80, "relu", torch.float16, False, True),
        (7, 1152, "gelu", torch.float16, False, True),
        (3, 2624, "gelu_tanh", torch.float32, True, True),
        (5, 4096, "silu", torch.float16, False, False),
        (127, 128, "sigmoid", torch.float32, False, True),
        (2, 5000, "silu", torch.float32, True, False),
    ],
)
def test_it_is_the_reference_s(
    device: torch.device,
    tokens: int,
    dim: int,
    activation: str,
    dtype: torch.dtype,
    has_bias: bool,
    gate_first: bool,
) -> None:
    gate_up = torch.randn(tokens, 2 * dim, device=device).to(dtype)
    bias = torch.randn(2 * dim, device=device).to(dtype) if has_bias else None
    out = gated_activation(gate_up, activation=activation, bias=bias, gate_first=gate_first)
    first, second = gate_up.chunk(2, dim=1)
    halves = (first, second) if gate_first else (second, first)
    assert_as_near_as_reference(out, gated_activation_reference, *halves, bias, activation, gate_first)
    # Two tensors give the same numbers, whatever the strides of their rows.
    torch.testing.assert_close(
        gated_activation(halves[0].contiguous(), halves[1], activation=activation, bias=bias, gate_first=gate_first),
        out,
        rtol=0,
        atol=0,
    )


def test_bf16(device: torch.device) -> None:
    gate_up = torch.randn(9, 2 * 384, device=device).bfloat16()
    gate, up = gate_up.double().chunk(2, dim=1)
    truth = torch.nn.functional.silu(gate) * up
    # The interpreter truncates to bf16: one step.
    torch.testing.assert_close(swiglu(gate_up).double(), truth, rtol=2**-7, atol=1e-30)


@pytest.mark.parametrize(
    ("tokens", "dim", "format", "dtype", "has_bias"),
    [
        (1, 1, "int8", torch.float32, True),
        (3, 100, "fp8", torch.float16, True),
        (2, 1152, "int8", torch.float16, False),
        (1, 14336, "int8", torch.bfloat16, False),
        (1, 16500, "int8", torch.float16, True),
    ],
)
def test_codes_are_those_of_the_rounded_result(
    device: torch.device, tokens: int, dim: int, format: str, dtype: torch.dtype, has_bias: bool
) -> None:
    gate_up = torch.randn(tokens, 2 * dim, device=device).to(dtype)
    bias = torch.randn(2 * dim, device=device).to(dtype) if has_bias else None
    codes, scale = quantized_gated_activation(gate_up, activation="silu", bias=bias, format=format)
    expected, expected_scale = quantize_rows(swiglu(gate_up, bias=bias), format)
    assert_same_codes(codes, scale, expected, expected_scale, dtype)


def test_no_rows(device: torch.device) -> None:
    assert swiglu(torch.randn(0, 64, device=device)).shape == (0, 32)
    assert quantized_gated_activation(torch.randn(0, 64, device=device), activation="gelu")[0].shape == (0, 32)


def test_llama_s_and_modernbert_s_own_modules_are_the_truth() -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig, ModernBertConfig
    from transformers.models.llama.modeling_llama import LlamaMLP
    from transformers.models.modernbert.modeling_modernbert import ModernBertMLP

    x = torch.randn(5, 32)
    llama = LlamaMLP(LlamaConfig(hidden_size=32, intermediate_size=48)).eval()
    modern = ModernBertMLP(ModernBertConfig(hidden_size=32, intermediate_size=48)).eval()
    with torch.no_grad(), kernels_everywhere():
        fused = torch.cat([llama.gate_proj(x), llama.up_proj(x)], dim=1)
        torch.testing.assert_close(llama.down_proj(swiglu(fused)), llama(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            llama.down_proj(swiglu(llama.gate_proj(x), llama.up_proj(x))), llama(x), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(modern.Wo(geglu(modern.Wi(x))), modern(x), rtol=1e-5, atol=1e-6)


def test_geglu_by_tanh(device: torch.device) -> None:
    gate, up = torch.randn(4, 32, device=device), torch.randn(4, 32, device=device)
    expected = torch.nn.functional.gelu(gate, approximate="tanh") * up
    torch.testing.assert_close(geglu(gate, up, approximate="tanh"), expected, rtol=1e-5, atol=1e-6)


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the number of columns of the gate is 0; it must be at least 1"):
        quantized_gated_activation(torch.zeros(3, 0), activation="silu")


def test_errors_name_the_argument() -> None:
    gate_up = torch.randn(3, 8)
    with pytest.raises(ArgumentError, match="gate_up has 7 columns; it must have two halves of one size"):
        swiglu(torch.randn(3, 7))
    with pytest.raises(ArgumentError, match=r"up has shape \[3, 4\]; it must be \[3, 8\]"):
        swiglu(gate_up, torch.randn(3, 4))
    with pytest.raises(ArgumentError, match=r"bias has shape \[4\]; it must be \[8\]"):
        swiglu(gate_up, bias=torch.randn(4))
    with pytest.raises(ArgumentError, match="approximate is 'erf'; allowed: 'none', 'tanh'"):
        geglu(gate_up, approximate="erf")
    with pytest.raises(ArgumentError, match="up has dtype float16 and must have that of gate_up, float32"):
        swiglu(gate_up, gate_up.half())
