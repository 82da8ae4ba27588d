"""Rows to codes and scales."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline_kernels.devices import Chip, describing
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.quantize import WIDEST_IN_REGISTERS, quantize_rows, quantize_rows_reference
from ridgeline_kernels.language.rounding import codes_for_store
from ridgeline_kernels.op import kernels_everywhere

FLOAT_DTYPES = [torch.float16, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "dim"), [(1, 1), (2, 63), (63, 100), (5, 768), (1, 1024), (3, 5000)])
def test_int8_codes_and_scales_are_the_reference_s(
    device: torch.device, tokens: int, dim: int, dtype: torch.dtype
) -> None:
    x = torch.randn(tokens, dim, device=device).to(dtype)
    codes, scale = quantize_rows(x, "int8")
    expected_codes, expected_scale = quantize_rows_reference(x, "int8")
    torch.testing.assert_close(scale, expected_scale, rtol=1e-6, atol=0)
    assert codes.dtype == torch.int8
    # A quotient may fall on the other side of a half.
    assert (codes.int() - expected_codes.int()).abs().max() <= 1
    assert (codes != expected_codes).float().mean() < 0.01


@pytest.mark.parametrize("dim", [1, 80, 768])
def test_fp8_codes_are_the_reference_s(device: torch.device, dim: int) -> None:
    x = torch.randn(17, dim, device=device)
    codes, scale = quantize_rows(x, "fp8")
    expected, expected_scale = quantize_rows_reference(x, "fp8")
    torch.testing.assert_close(scale, expected_scale, rtol=1e-6, atol=0)
    # A quotient may fall on the other side of a half; neighbouring codes of e4m3 are at most an eighth apart.
    torch.testing.assert_close(codes.float(), expected.float(), rtol=0.126, atol=2**-9)
    assert (codes.float() != expected.float()).float().mean() < 0.01


def test_every_fp8_code_and_what_lies_between_two_is_torch_s(device: torch.device) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    values = values[values.isfinite()].sort().values
    between = (values[1:] + values[:-1]) / 2
    x = torch.cat([values, between, between * (1 + 2**-20), between * (1 - 2**-20)]).to(device)[None, :]
    # The largest magnitude is 448: the scale is 1.
    codes, _ = quantize_rows(x, "fp8")
    assert torch.equal(codes.view(torch.uint8), x.to(torch.float8_e4m3fn).view(torch.uint8))


def test_fp8_codes_are_handed_to_kernels_as_bytes_where_triton_cannot_convert() -> None:
    codes = torch.zeros(2, 3, dtype=torch.float8_e4m3fn)
    with describing(Chip(capability=86, multiprocessors=1)):
        assert codes_for_store(codes).dtype == torch.uint8
        assert codes_for_store(codes.view(torch.int8)).dtype == torch.int8


@pytest.mark.parametrize("format", ["int8", "fp8"])
def test_a_row_of_zeros_has_scale_one(device: torch.device, format: str) -> None:
    x = torch.randn(3, 64, device=device)
    x[1] = 0
    codes, scale = quantize_rows(x, format)
    assert scale[1] == 1
    assert not codes[1].float().any()


def test_strided_rows_and_no_rows(device: torch.device) -> None:
    wide = torch.randn(9, 200, device=device)
    codes, scale = quantize_rows(wide[:, 50:150], "int8")
    expected, expected_scale = quantize_rows_reference(wide[:, 50:150].contiguous(), "int8")
    assert (codes.int() - expected.int()).abs().max() <= 1
    torch.testing.assert_close(scale, expected_scale)
    codes, scale = quantize_rows(wide[:0], "int8")
    assert codes.shape == (0, 200)
    assert scale.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**31), st.floats(1e-6, 1e4))
def test_int8_round_trips_within_half_a_step(dim: int, seed: int, magnitude: float) -> None:
    x = torch.randn(2, dim, generator=torch.Generator().manual_seed(seed)) * magnitude
    with kernels_everywhere():
        codes, scale = quantize_rows(x, "int8")
    assert ((codes * scale[:, None] - x).abs() <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("format", ["int8", "fp8"])
def test_a_row_with_a_nan_is_nan_when_it_is_read_back(device: torch.device, format: str) -> None:
    x = torch.tensor([[1.0, float("nan"), 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]], device=device)
    for codes, scale in (quantize_rows(x, format), quantize_rows_reference(x, format)):
        assert (codes.float() * scale[:, None]).isnan().all(dim=1).tolist() == [True, False]
        assert scale[1] > 0


@pytest.mark.parametrize("format", ["int8", "fp8"])
def test_rows_too_wide_for_registers(device: torch.device, format: str) -> None:
    x = torch.randn(2, WIDEST_IN_REGISTERS + 1, device=device)
    x[1, 20000] = float("nan")
    codes, scale = quantize_rows(x, format)
    expected, expected_scale = quantize_rows_reference(x, format)
    torch.testing.assert_close(scale, expected_scale, rtol=1e-6, atol=0, equal_nan=True)
    assert scale[1].isnan()
    assert (codes[0].float() != expected[0].float()).float().mean() < 0.01


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the last dimension of x is 0; it must be at least 1"):
        quantize_rows(torch.zeros(3, 0))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"x has shape \[4\]; it must be \[tokens, dim\]"):
        quantize_rows(torch.randn(4))
    with pytest.raises(ArgumentError, match="format is 'int4'; allowed: 'int8', 'fp8'"):
        quantize_rows(torch.randn(4, 4), "int4")
    with pytest.raises(ArgumentError, match="x has dtype int32; allowed: float16"):
        quantize_rows(torch.ones(4, 4, dtype=torch.int32))
