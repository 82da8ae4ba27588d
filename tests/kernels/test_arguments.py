"""Errors name the argument, what it was and what it may be."""

from __future__ import annotations

import pytest
import torch

from ridgeline_kernels.arguments import check_choice, check_cu_seqlens, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.packing import cu_seqlens_of

X = torch.randn(6, 4)


def test_what_fits_passes() -> None:
    check_tensor("x", X, ("tokens", 4), dtypes=(torch.float32,), like=X)
    check_tensor("x", X[:, 1:3], ("tokens", 2))
    check_tensor("x", X.t()[:1, :1], (1, 1))
    check_tensor("x", X[:0], ("tokens", 4))
    check_same_dtype("x", X, "y", X)
    check_choice("mode", "a", ("a", "b"))
    check_range("size", 1, 1, 2)
    check_cu_seqlens("cu_seqlens", cu_seqlens_of([4, 0, 2]), 6, X)


@pytest.mark.parametrize(
    ("tensor", "shape", "message"),
    [
        ([1.0], ("n",), "x must be a torch.Tensor, not list"),
        (X, ("tokens",), r"x has shape \[6, 4\]; it must be \[tokens\]"),
        (X, ("tokens", 5), r"x has shape \[6, 4\]; it must be \[tokens, 5\]"),
        (X, (6, "heads", 4), r"x has shape \[6, 4\]; it must be \[6, heads, 4\]"),
        (X.int(), ("tokens", 4), "x has dtype int32; allowed: float16, bfloat16, float32, float64"),
        (X.to("meta"), ("tokens", 4), "x is on meta and must be on cpu, like the other tensors"),
        (X.t(), (4, 6), r"x is strided along its last axis; give x\.contiguous\(\)"),
    ],
    ids=["list", "too many axes", "wrong size", "too few axes", "dtype", "device", "stride"],
)
def test_tensors_that_do_not_fit(tensor: torch.Tensor, shape: tuple[int | str, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check_tensor("x", tensor, shape, like=X)


def test_an_argument_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="x has dtype float16 and must have that of y, float32"):
        check_same_dtype("x", X.half(), "y", X)


def test_choices_and_ranges() -> None:
    with pytest.raises(ArgumentError, match="mode is 'c'; allowed: 'a', 'b'"):
        check_choice("mode", "c", ("a", "b"))
    with pytest.raises(ArgumentError, match="size is 0; it must be at least 1"):
        check_range("size", 0, 1)
    with pytest.raises(ArgumentError, match="size is 3; it must be from 1 to 2"):
        check_range("size", 3, 1, 2)
    with pytest.raises(ArgumentError, match="size is nan; it must be from 1 to 2"):
        check_range("size", float("nan"), 1, 2)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([0], r"cu_seqlens has 1 elements; it needs two or more: \[0, …, tokens\]"),
        ([1, 6], "cu_seqlens runs from 1 to 6; it must run from 0 to the 6 tokens"),
        ([0, 7], "cu_seqlens runs from 0 to 7; it must run from 0 to the 6 tokens"),
        ([0, 4, 3, 6], r"cu_seqlens decreases; no element may be less than the one before: \[0, 4, 3, 6\]"),
    ],
    ids=["one element", "start", "end", "decreasing"],
)
def test_bounds_that_bound_nothing(bounds: list[int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check_cu_seqlens("cu_seqlens", torch.tensor(bounds, dtype=torch.int32), 6, X)


def test_bounds_of_another_dtype_or_shape() -> None:
    with pytest.raises(ArgumentError, match="cu_seqlens has dtype int64; allowed: int32"):
        check_cu_seqlens("cu_seqlens", torch.tensor([0, 6]), 6, X)
    with pytest.raises(ArgumentError, match=r"cu_seqlens has shape \[1, 2\]; it must be \[sequences \+ 1\]"):
        check_cu_seqlens("cu_seqlens", torch.tensor([[0, 6]], dtype=torch.int32), 6, X)
