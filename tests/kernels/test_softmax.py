"""Softmax of rows, short and long."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.softmax import LONGEST_IN_REGISTERS, softmax, softmax_reference
from tests.kernels.closeness import assert_as_near_as_reference


@pytest.mark.parametrize(
    ("rows", "n", "dtype", "scale", "bias_dims"),
    [
        (1, 1, torch.float32, 1.0, 0),
        (127, 2, torch.float16, 1.0, 1),
        (65, 63, torch.float32, 0.125, 2),
        (33, 64, torch.float16, 1.0, 0),
        (5, 1000, torch.float32, -2.0, 0),
        (3, 5000, torch.float16, 1.0, 2),
        (2, 16384, torch.float32, 1.0, 1),
        (2, LONGEST_IN_REGISTERS + 1, torch.float32, 1.0, 1),
        (3, 30522, torch.float16, 0.5, 2),
        (1, 128256, torch.float32, -1.0, 0),
        (1, 65536, torch.float16, 1.0, 0),
    ],
)
def test_it_is_the_reference_s(
    device: torch.device, rows: int, n: int, dtype: torch.dtype, scale: float, bias_dims: int
) -> None:
    x = torch.randn(rows, n, device=device).mul(3).to(dtype)
    bias = torch.randn((rows, n)[2 - bias_dims :], device=device).to(dtype) if bias_dims else None
    out = softmax(x, scale=scale, bias=bias)
    assert out.dtype == dtype
    assert_as_near_as_reference(out, softmax_reference, x, scale, bias)
    torch.testing.assert_close(out.float().sum(dim=1), torch.ones(rows, device=device), rtol=2e-3, atol=0)


@pytest.mark.parametrize("n", [768, 20000])
def test_bf16(device: torch.device, n: int) -> None:
    x = torch.randn(3, n, device=device).bfloat16()
    # The interpreter truncates to bf16: one step.
    torch.testing.assert_close(softmax(x).double(), torch.softmax(x.double(), dim=1), rtol=2**-7, atol=1e-30)


def test_large_scores_of_both_signs_do_not_overflow(device: torch.device) -> None:
    x = torch.tensor([[-200.0, 3.0, 2.0], [1e38, -1e38, 0.0], [-1e30, -1e30, -1e30]], device=device)
    torch.testing.assert_close(softmax(x), torch.softmax(x, dim=1))


@pytest.mark.parametrize("n", [100, 40000])
def test_places_of_minus_infinity_are_zero_and_rows_of_nothing_else_nan(device: torch.device, n: int) -> None:
    x = torch.randn(3, n, device=device)
    x[0, : n // 2] = float("-inf")
    x[1, n // 2 :] = float("-inf")
    x[2] = float("-inf")
    out = softmax(x)
    assert not out[0, : n // 2].any()
    torch.testing.assert_close(out[:2], torch.softmax(x, dim=1)[:2])
    assert out[2].isnan().all()


def test_strided_rows_their_order_and_no_rows(device: torch.device) -> None:
    wide = torch.randn(9, 640, device=device)
    out = softmax(wide[:, 96:304])
    torch.testing.assert_close(out, torch.softmax(wide[:, 96:304], dim=1))
    order = torch.randperm(9, device=device)
    assert torch.equal(softmax(wide[order, 96:304]), out[order])
    assert softmax(wide[:0]).shape == (0, 640)


def test_no_columns_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="the last dimension of x is 0; it must be at least 1"):
        softmax(torch.zeros(3, 0))
    with pytest.raises(ArgumentError, match=r"bias must be a torch\.Tensor, not list"):
        softmax(torch.zeros(3, 1), bias=[0.0])  # type: ignore[arg-type]


def test_errors_name_the_argument() -> None:
    x = torch.randn(3, 8)
    with pytest.raises(ArgumentError, match=r"x has shape \[8\]; it must be \[rows, n\]"):
        softmax(x[0])
    with pytest.raises(ArgumentError, match=r"bias has shape \[2, 8\]; it must be \[3, 8\]"):
        softmax(x, bias=x[:2])
    with pytest.raises(ArgumentError, match=r"bias has shape \[7\]; it must be \[8\]"):
        softmax(x, bias=x[0, :7])
    with pytest.raises(ArgumentError, match=r"it must be \[n\] or \[rows, n\]"):
        softmax(x, bias=x[None])
