"""Linears over int8 and fp8 codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline_kernels.devices import Chip, describing
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.quantize import quantize_rows
from ridgeline_kernels.gemm.fp8 import fp8_linear, fp8_linear_reference
from ridgeline_kernels.gemm.half import linear_reference
from ridgeline_kernels.gemm.int8 import int8_linear, int8_linear_reference
from ridgeline_kernels.gemm.quantized import quantize_weight
from ridgeline_kernels.language.rounding import CODES
from ridgeline_kernels.launching import recording
from ridgeline_kernels.op import kernels_everywhere
from tests.kernels.linear_parameters import VARIANTS, launched_with

OPS = {"int8": (int8_linear, int8_linear_reference), "fp8": (fp8_linear, fp8_linear_reference)}
SIZES = [(1, 768, 65), (2, 8, 1), (63, 80, 127), (65, 100, 63), (127, 208, 136), (600, 32, 24), (16, 1536, 96)]


@pytest.fixture(autouse=True)
def _hopper(device: torch.device) -> Iterator[None]:
    """The interpreter's device multiplies fp8, with three programs on its grid."""
    if device.type == "cpu":
        with describing(Chip(90, 3)):
            yield
    else:
        yield


def codes_and_scales(
    tokens: int, in_size: int, out_size: int, format: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    x = torch.randn(tokens, in_size, device=device)
    weight = torch.randn(out_size, in_size, device=device) * in_size**-0.5
    return (*quantize_rows(x, format), *quantize_weight(weight, format))


def exact(
    arguments: tuple[torch.Tensor, ...],
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """What a linear over codes stands for, in float64, from the dequantized matrices."""
    x_codes, x_scale, weight_codes, weight_scale = (each.double() for each in arguments)
    rest = (each if each is None else each.double() for each in (bias, residual))
    bias, residual = rest
    return linear_reference(
        x_codes * x_scale[:, None], weight_codes * weight_scale[:, None], bias, activation, residual, None
    )


def assert_near(y: torch.Tensor, truth: torch.Tensor, steps: float = 1.0) -> None:
    """Within some units in the last place of the largest output."""
    assert y.shape == truth.shape
    assert (y.double() - truth).abs().max() <= steps * torch.finfo(y.dtype).eps * truth.abs().max()


@pytest.mark.parametrize(("tokens", "in_size", "out_size"), SIZES)
@pytest.mark.parametrize("format", OPS)
def test_shipped_parameters(device: torch.device, format: str, tokens: int, in_size: int, out_size: int) -> None:
    arguments = codes_and_scales(tokens, in_size, out_size, format, device)
    bias, residual = torch.randn(out_size, device=device), torch.randn(tokens, out_size, device=device).half()
    y = OPS[format][0](*arguments, bias, activation="gelu", residual=residual)
    assert y.dtype == torch.float16
    assert_near(y, exact(arguments, bias, "gelu", residual))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("tokens", "in_size", "out_size"), [(65, 208, 144), (17, 512, 63)])
def test_int8_sums_are_exact(device: torch.device, variant: str, tokens: int, in_size: int, out_size: int) -> None:
    x, weight = (
        torch.randint(-128, 128, (size, in_size), dtype=torch.int8, device=device) for size in (tokens, out_size)
    )
    one, ones = torch.ones(tokens, device=device), torch.ones(out_size, device=device)
    with launched_with(variant):
        y = int8_linear(x, one, weight, ones, out_dtype=torch.float32)
    # Below 2^24 every integer is an fp32.
    expected = x.double() @ weight.double().t()
    assert expected.abs().max() < 2**24
    assert torch.equal(y.double(), expected)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("tokens", "in_size", "out_size"), [(65, 208, 144), (17, 512, 63)])
def test_fp8_variants(device: torch.device, variant: str, tokens: int, in_size: int, out_size: int) -> None:
    arguments = codes_and_scales(tokens, in_size, out_size, "fp8", device)
    bias = torch.randn(out_size, device=device)
    with launched_with(variant, BLOCK_K=128):
        y = fp8_linear(*arguments, bias, out_dtype=torch.float32)
    # Hopper's tensor cores keep some 14 bits in the sums of 128 products.
    allowed = 2**-12 if device.type == "cuda" else 1e-6
    truth = exact(arguments, bias)
    assert (y.double() - truth).abs().max() <= allowed * truth.abs().max()


@pytest.mark.parametrize("variant", ["pointers", "tma, halves", "split", "torch"])
@pytest.mark.parametrize("format", OPS)
@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_requantizes_within_one_step(device: torch.device, format: str, variant: str, activation: str) -> None:
    arguments = codes_and_scales(37, 128, 80, format, device)
    bias, residual = torch.randn(80, device=device), torch.randn(37, 80, device=device)
    function, reference = OPS[format]
    # Some outputs lie beyond the largest code, which they take.
    out_scale = 0.01 if format == "int8" else 0.003
    with launched_with(variant, BLOCK_K=128):
        codes = function(*arguments, bias, activation=activation, residual=residual, out_scale=out_scale)
    dtype, largest = CODES[format]
    assert codes.dtype == dtype
    truth = (exact(arguments, bias, activation, residual) / out_scale).clamp(-largest, largest)
    step = 1.0 if format == "int8" else truth.abs().clamp(min=2**-6) / 8
    assert ((codes.double() - truth).abs() <= 0.51 * step + 1e-3).all() or device.type == "cuda"
    assert ((codes.double() - truth).abs() <= step).all()
    assert torch.equal(
        reference(*arguments, bias, activation, residual, dtype, out_scale).float() == largest,
        codes.float() == largest,
    )


@pytest.mark.parametrize("format", OPS)
def test_epilogues_without_bias_and_with_strides(device: torch.device, format: str) -> None:
    x, x_scale, weight, weight_scale = codes_and_scales(40, 224, 72, format, device)
    arguments = (x[:, 48:208], x_scale, weight[:, 32:192], weight_scale)
    residual = torch.randn(40, 200, device=device).half()[:, 9:81]
    function = OPS[format][0]
    assert_near(function(*arguments), exact(arguments))
    assert_near(function(*arguments, residual=residual), exact(arguments, residual=residual))
    y = function(*arguments, activation="gelu_tanh", out_dtype=torch.float32)
    assert_near(y, exact(arguments, activation="gelu_tanh"), steps=20 if device.type == "cpu" else 4000)


@pytest.mark.parametrize("format", OPS)
def test_nothing_to_do(device: torch.device, format: str) -> None:
    x, x_scale, weight, weight_scale = codes_and_scales(3, 32, 8, format, device)
    function = OPS[format][0]
    for variant in ("tma", "torch"):
        with launched_with(variant, BLOCK_K=128):
            assert function(x[:0], x_scale[:0], weight, weight_scale).shape == (0, 8)
            assert function(x, x_scale, weight[:0], weight_scale[:0]).shape == (3, 0)
            assert not function(x[:, :0], x_scale, weight[:, :0], weight_scale).any()


@pytest.mark.parametrize("format", OPS)
def test_a_token_s_result_does_not_depend_on_the_others(device: torch.device, format: str) -> None:
    x, x_scale, weight, weight_scale = codes_and_scales(60, 512, 48, format, device)
    function = OPS[format][0]
    together = function(x, x_scale, weight, weight_scale)
    order = torch.randperm(60, device=device)[:40]
    assert torch.equal(function(x[order], x_scale[order], weight, weight_scale), together[order])


def test_fp8_is_widened_to_fp16_where_tensor_cores_lack_it(device: torch.device) -> None:
    arguments = codes_and_scales(33, 96, 40, "fp8", device)
    launched: list[tuple[torch.dtype, Any]] = []

    def record(kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], options: dict[str, Any]) -> None:
        launched.append((args[0].dtype, options["MAX_IMPRECISE"]))

    for capability, dtype in ((80, torch.float16), (86, torch.float16), (89, torch.float8_e4m3fn)):
        with describing(Chip(capability, 3)), recording(record), launched_with("pointers", BLOCK_K=128):
            fp8_linear(*arguments)
        assert launched.pop()[0] == dtype
    with describing(Chip(80, 3)):
        y = fp8_linear(*arguments, activation="relu")
    assert_near(y, exact(arguments, activation="relu"))


@pytest.mark.parametrize("format", OPS)
def test_weights_are_quantized_like_rows(format: str) -> None:
    weight = torch.randn(9, 50)
    weight[4] = 0
    codes, scale = quantize_weight(weight.half(), format)
    expected, expected_scale = quantize_rows(weight.half(), format)
    assert torch.equal(codes.float(), expected.float())
    assert torch.equal(scale, expected_scale)
    assert quantize_weight(weight[:, :0], format)[1].tolist() == [1.0] * 9


@pytest.mark.parametrize("format", OPS)
def test_weights_of_the_least_magnitudes(format: str) -> None:
    weight = torch.tensor([[5e-44, -5e-44, 0.0], [1.0, float("nan"), 0.0]])
    codes, scale = quantize_weight(weight, format)
    assert not codes[0].float().any()
    assert scale[0] == 1.0
    assert scale[1].isnan()


@pytest.mark.parametrize("variant", ["pointers", "split"])
def test_nan_stays_nan(device: torch.device, variant: str) -> None:
    x, x_scale, weight, weight_scale = codes_and_scales(3, 256, 8, "fp8", device)
    x_scale[1] = float("nan")
    with launched_with(variant, BLOCK_K=128):
        codes = fp8_linear(x, x_scale, weight, weight_scale, activation="relu", out_scale=0.1)
        y = int8_linear(x.view(torch.int8), x_scale, weight.view(torch.int8), weight_scale, activation="relu")
    assert codes.float().isnan().any(dim=1).tolist() == [False, True, False]
    assert y.isnan().any(dim=1).tolist() == [False, True, False]


@pytest.mark.parametrize("variant", ["pointers", "split"])
def test_fp8_results_below_sm_89_are_stored_as_bytes(device: torch.device, variant: str) -> None:
    arguments = codes_and_scales(5, 256, 8, "fp8", device)
    expected = fp8_linear_reference(*arguments, None, "none", None, torch.float8_e4m3fn, 0.1)
    with describing(Chip(80, 3)), launched_with(variant):
        codes = fp8_linear(*arguments, out_scale=0.1)
    assert codes.dtype == torch.float8_e4m3fn
    assert ((codes.float() - expected.float()).abs() <= expected.float().abs().clamp(min=2**-6) / 8).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**31), st.floats(1e-6, 1e4))
def test_int8_weights_round_trip_within_half_a_step(in_size: int, seed: int, magnitude: float) -> None:
    weight = torch.randn(3, in_size, generator=torch.Generator().manual_seed(seed)) * magnitude
    codes, scale = quantize_weight(weight)
    assert ((codes * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("format", OPS)
def test_compiling_sees_through_the_op(format: str) -> None:
    arguments = codes_and_scales(5, 16, 8, format, torch.device("cpu"))
    op = getattr(torch.ops.ridgeline, f"{format}_linear")
    # The check of schemas adds to its inputs, which torch cannot in fp8.
    checks = ("test_faketensor",)
    torch.library.opcheck(op, (*arguments, torch.randn(8), "gelu", None, torch.float16, None), test_utils=checks)


def test_errors_name_the_argument() -> None:
    x, x_scale, weight, weight_scale = codes_and_scales(3, 16, 8, "int8", torch.device("cpu"))
    with pytest.raises(ArgumentError, match="x_codes has dtype int8; allowed: float8_e4m3fn"):
        fp8_linear(x, x_scale, weight, weight_scale)
    with pytest.raises(ArgumentError, match=r"weight_codes has shape \[8, 15\]; it must be \[out, 16\]"):
        int8_linear(x, x_scale, weight[:, :15], weight_scale)
    with pytest.raises(ArgumentError, match=r"x_scale has shape \[2\]; it must be \[3\]"):
        int8_linear(x, x_scale[:2], weight, weight_scale)
    with pytest.raises(ArgumentError, match="weight_scale has dtype float64; allowed: float32"):
        int8_linear(x, x_scale, weight, weight_scale.double())
    with pytest.raises(ArgumentError, match=r"out_scale is 0\.0; it must be at least"):
        int8_linear(x, x_scale, weight, weight_scale, out_scale=0.0)
    with pytest.raises(ArgumentError, match=r"out_dtype is torch\.int8; allowed"):
        int8_linear(x, x_scale, weight, weight_scale, out_dtype=torch.int8)
    with pytest.raises(ArgumentError, match="format is 'int4'; allowed: 'int8', 'fp8'"):
        quantize_weight(torch.randn(4, 4), "int4")


def test_kernels_and_references_agree_on_the_public_function() -> None:
    arguments = codes_and_scales(9, 64, 24, "int8", torch.device("cpu"))
    plain = int8_linear(*arguments, out_dtype=torch.float32)
    with kernels_everywhere():
        assert torch.equal(int8_linear(*arguments, out_dtype=torch.float32), plain)
