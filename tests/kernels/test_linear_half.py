"""Linears in fp16, bf16 and fp32."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from ridgeline_kernels.errors import ArgumentError, ConfigurationError
from ridgeline_kernels.gemm.half import linear, linear_flops, linear_reference
from ridgeline_kernels.gemm.launcher import takes_tma
from ridgeline_kernels.language.activations import ACTIVATIONS
from ridgeline_kernels.op import forced_kernels
from ridgeline_kernels.parameters import looking_up
from tests.kernels.closeness import assert_as_near_as_reference
from tests.kernels.linear_parameters import VARIANTS, launched_with

HALF, SINGLE, BRAIN = torch.float16, torch.float32, torch.bfloat16


def skip_what_the_interpreter_cannot(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "cpu" and dtype == BRAIN:
        pytest.skip("Triton's interpreter multiplies bf16 wrongly")


def inputs(
    tokens: int, in_size: int, out_size: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, weight, bias and residual."""
    x = torch.randn(tokens, in_size, device=device)
    weight = torch.randn(out_size, in_size, device=device) * in_size**-0.5
    bias, residual = torch.randn(out_size, device=device), torch.randn(tokens, out_size, device=device)
    return x.to(dtype), weight.to(dtype), bias.to(dtype), residual.to(dtype)


def assert_right(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    y = linear(x, weight, bias, activation=activation, residual=residual)
    assert y.dtype == x.dtype
    assert_as_near_as_reference(y, linear_reference, x, weight, bias, activation, residual, None)
    return y


@pytest.mark.parametrize(
    ("tokens", "in_size", "out_size", "dtype"),
    [
        (1, 768, 65, HALF),
        (1, 8, 1, SINGLE),
        (2, 100, 127, HALF),
        (16, 1536, 200, HALF),
        (33, 768, 130, HALF),
        (63, 80, 1000, SINGLE),
        (65, 100, 63, SINGLE),
        (127, 768, 96, HALF),
        (65, 160, 384, BRAIN),
        (1000, 80, 130, HALF),
        (5, 1, 2, HALF),
    ],
)
def test_shipped_parameters(device: torch.device, tokens: int, in_size: int, out_size: int, dtype: torch.dtype) -> None:
    skip_what_the_interpreter_cannot(device, dtype)
    x, weight, bias, residual = inputs(tokens, in_size, out_size, dtype, device)
    assert_right(x, weight, bias, "gelu", residual)
    assert_right(x, weight)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("tokens", "in_size", "out_size", "dtype"),
    [(65, 208, 136, HALF), (127, 100, 63, SINGLE), (2, 320, 130, SINGLE), (64, 160, 128, BRAIN)],
)
def test_variants_of_the_kernel(
    device: torch.device, variant: str, tokens: int, in_size: int, out_size: int, dtype: torch.dtype
) -> None:
    skip_what_the_interpreter_cannot(device, dtype)
    x, weight, bias, residual = inputs(tokens, in_size, out_size, dtype, device)
    with launched_with(variant):
        assert_right(x, weight, bias, "silu", residual)


@pytest.mark.parametrize(
    ("activation", "has_bias", "has_residual", "out_dtype", "variant"),
    [
        (activation, has_bias, has_residual, out_dtype, variant)
        for (activation, (has_bias, has_residual)), out_dtype, variant in zip(
            itertools.product(ACTIVATIONS, [(True, False), (False, True)]),
            itertools.cycle([None, SINGLE, HALF]),
            itertools.cycle(["pointers", "tma, halves", "split", "torch"]),
            strict=False,
        )
    ],
)
def test_epilogues(
    device: torch.device,
    activation: str,
    has_bias: bool,
    has_residual: bool,
    out_dtype: torch.dtype | None,
    variant: str,
) -> None:
    x, weight, bias, residual = inputs(37, 112, 72, HALF, device)
    options: dict[str, Any] = {
        "bias": bias.float() if has_bias else None,
        "activation": activation,
        "residual": residual.float() if has_residual else None,
    }
    with launched_with(variant):
        y = linear(x, weight, out_dtype=out_dtype, **options)
    assert y.dtype == (out_dtype or HALF)

    truth = linear_reference(
        *(each.double() for each in (x, weight)),
        *(value.double() if isinstance(value, torch.Tensor) else value for value in options.values()),
        None,
    )
    # Through torch the product is rounded to fp16 before the epilogue.
    eps = torch.finfo(HALF if variant == "torch" else y.dtype).eps
    assert (y.double() - truth).abs().max() <= 2 * eps * truth.abs().max() + 1e-6


def test_the_reference_is_torch_s_linear() -> None:
    x, weight, bias, residual = inputs(7, 20, 30, SINGLE, torch.device("cpu"))
    expected = torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias)) + residual
    torch.testing.assert_close(linear(x, weight, bias, activation="gelu", residual=residual), expected)
    wide = linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(wide, torch.nn.functional.linear(x.double(), weight.double(), bias.double()))


@pytest.mark.parametrize("variant", ["pointers", "tma", "torch"])
@pytest.mark.parametrize("offset", [0, 16, 7])
def test_strided_rows(device: torch.device, variant: str, offset: int) -> None:
    wide_x = torch.randn(70, 320, device=device, dtype=HALF)
    wide_weight = torch.randn(40, 256, device=device, dtype=HALF) / 12
    wide_residual = torch.randn(70, 99, device=device, dtype=HALF)
    x, weight = wide_x[:, offset : offset + 144], wide_weight[:, 64:208]
    with launched_with(variant):
        y = linear(x, weight, residual=wide_residual[:, 3:43])
        same = linear(x.contiguous(), weight.contiguous(), residual=wide_residual[:, 3:43].contiguous())
    assert torch.equal(y, same)
    with launched_with(variant):
        assert_right(x, weight, residual=wide_residual[:, 3:43])


@pytest.mark.parametrize("variant", ["pointers", "tma", "split", "torch"])
def test_nothing_to_do(device: torch.device, variant: str) -> None:
    weight, bias = torch.randn(12, 32, device=device, dtype=HALF), torch.randn(12, device=device, dtype=HALF)
    with launched_with(variant):
        assert linear(weight.new_zeros(0, 32), weight, bias, activation="relu").shape == (0, 12)
        assert linear(weight, weight[:0]).shape == (12, 0)
        y = linear(weight[:, :0], weight[:, :0], bias, activation="relu")
    torch.testing.assert_close(y, bias.relu().expand(12, 12))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "torch"])
def test_a_token_s_result_does_not_depend_on_the_others(device: torch.device, variant: str) -> None:
    x, weight, bias, _ = inputs(70, 144, 33, HALF, device)
    with launched_with(variant):
        together = linear(x, weight, bias, activation="gelu")
        alone = linear(x[60:61], weight, bias, activation="gelu")
        order = torch.randperm(70, device=device)
        shuffled = linear(x[order], weight, bias, activation="gelu")
    assert torch.equal(together[60:61], alone)
    assert torch.equal(together[order], shuffled)


def test_the_number_of_tokens_chooses_among_a_few_classes(device: torch.device) -> None:
    asked: list[str] = []

    def look_up(op: str, shape_class: str) -> dict[str, Any]:
        asked.append(shape_class)
        return {"backend": "torch"}

    with looking_up(look_up):
        for tokens in (1, 16, 17, 32, 33, 64, 65, 128, 129, 500, 512, 513, 4096, 4097, 9000):
            linear(torch.empty(tokens, 16, dtype=HALF, device=device), torch.empty(8, 16, dtype=HALF, device=device))
    bounds = ("<=16", "<=32", "<=64", "<=128", "<=512", "<=4096", ">4096")
    assert set(asked) == {f"m{bound} n<=1024 plain" for bound in bounds}


@pytest.mark.parametrize("tokens", [16, 65, 9000])
def test_fp32_beside_fp16_has_shape_classes_of_its_own(device: torch.device, tokens: int) -> None:
    asked: list[str] = []

    def look_up(op: str, shape_class: str) -> dict[str, Any]:
        asked.append(shape_class)
        raise ConfigurationError("enough")

    x, weight = (torch.empty(rows, 16, dtype=HALF, device=device) for rows in (tokens, 8))
    residual = torch.empty(tokens, 8, device=device)
    for options in (
        {"residual": residual},
        {"residual": residual.half(), "out_dtype": SINGLE},
        {"residual": residual.half()},
    ):
        with looking_up(look_up), forced_kernels(), pytest.raises(ConfigurationError, match="enough"):
            linear(x, weight, **options)
    wide = {16: "m<=16 n<=1024 wide", 65: "m<=128 wide n<=1024", 9000: "m>4096 wide n<=1024"}[tokens]
    assert asked[:2] == [wide, wide]
    assert asked[2].endswith("n<=1024 fused")


@pytest.mark.parametrize("variant", ["pointers", "torch"])
def test_a_product_beyond_fp16_comes_back(device: torch.device, variant: str) -> None:
    x, weight = torch.full((2, 100), 30.0, device=device).half(), torch.full((3, 100), 30.0, device=device).half()
    back = torch.full((3,), -50000.0, device=device)
    with launched_with(variant):
        for bias in (back.half(), back):
            assert (linear(x, weight, bias, activation="relu") == 40000).all()
        assert (linear(x, weight, residual=back.half().expand(2, 3)) == 40000).all()
        assert (linear(x, -weight, back + 70000 + 80000) == 10000).all()


@pytest.mark.parametrize("variant", ["pointers", "tma"])
def test_rows_that_are_one_row(device: torch.device, variant: str) -> None:
    x, weight = torch.randn(1, 32, device=device).half().expand(40, 32), torch.randn(16, 32, device=device).half()
    assert not takes_tma(x)
    with launched_with(variant):
        assert torch.equal(linear(x, weight), linear(x.contiguous(), weight))


def test_compiling_sees_through_the_op() -> None:
    x, weight, bias, residual = inputs(5, 16, 8, SINGLE, torch.device("cpu"))
    traced = torch.export.export(_Layer(), (x, weight, bias, residual))
    torch.testing.assert_close(traced.module()(x, weight, bias, residual), _Layer()(x, weight, bias, residual))
    torch.library.opcheck(torch.ops.ridgeline.linear, (x, weight, bias, "gelu", residual, HALF))


class _Layer(torch.nn.Module):
    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        x, weight, bias, residual = args
        return linear(x, weight, bias, activation="gelu", residual=residual)


def test_flops() -> None:
    assert linear_flops(3, 5, 7) == 2 * 3 * 5 * 7


def test_errors_name_the_argument() -> None:
    x, weight, bias, residual = inputs(3, 8, 4, HALF, torch.device("cpu"))
    with pytest.raises(ArgumentError, match=r"weight has shape \[4, 7\]; it must be \[out, 8\]"):
        linear(x, weight[:, :7])
    with pytest.raises(ArgumentError, match="weight has dtype float32 and must have that of x, float16"):
        linear(x, weight.float())
    with pytest.raises(ArgumentError, match=r"bias has shape \[3\]; it must be \[4\]"):
        linear(x, weight, bias[:3])
    with pytest.raises(ArgumentError, match="activation is 'swish'; allowed: 'none', 'relu'"):
        linear(x, weight, activation="swish")
    with pytest.raises(ArgumentError, match=r"residual has shape \[2, 4\]; it must be \[3, 4\]"):
        linear(x, weight, residual=residual[:2])
    with pytest.raises(ArgumentError, match=r"out_dtype is torch\.int8; allowed: torch\.float16"):
        linear(x, weight, out_dtype=torch.int8)
    with pytest.raises(ArgumentError, match="residual has dtype float64; allowed: float16, bfloat16, float32"):
        linear(x, weight, residual=residual.double())
    with pytest.raises(ArgumentError, match=r"out_dtype is torch\.float64; allowed: torch\.float16"):
        linear(x, weight, out_dtype=torch.float64)
    with pytest.raises(ArgumentError, match="x is strided along its last axis"):
        linear(x.t().contiguous().t(), weight)
