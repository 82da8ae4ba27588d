"""LayerNorm and RMSNorm with what is added before and quantized after."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.norm import WIDEST_QUANTIZED_ROW_BYTES, add_norm, layer_norm, norm_reference, rms_norm
from ridgeline_kernels.fused.quantize import quantize_rows
from tests.kernels.closeness import assert_as_near_as_reference

# What a case adds and multiplies, tokens, dim: every class of launch parameters and dims that fill no block.
CASES = [
    ("layer", "weight bias residual x_bias", 1, 384, torch.float16),
    ("layer", "weight bias residual x_bias", 65, 768, torch.float32),
    ("layer", "weight bias residual", 2, 1024, torch.bfloat16),
    ("layer", "weight x_bias", 63, 80, torch.float16),
    ("layer", "", 127, 1, torch.float32),
    ("layer", "bias", 9, 16384, torch.float16),
    ("rms", "weight residual", 64, 130, torch.bfloat16),
    ("rms", "weight residual x_bias", 3, 2048, torch.float16),
    ("rms", "weight bias", 5, 4096, torch.float32),
    ("rms", "", 1000, 32, torch.float16),
    ("rms", "residual", 2, 5000, torch.bfloat16),
]


def inputs(
    kind: str, has: str, tokens: int, dim: int, dtype: torch.dtype, device: torch.device
) -> tuple[Any, dict[str, Any]]:
    """x, and the other arguments of `add_norm`."""
    sizes = {"weight": (dim,), "bias": (dim,), "residual": (tokens, dim), "x_bias": (dim,)}
    # A mean far from zero, which a variance from two sums would not survive.
    x = (torch.randn(tokens, dim, device=device) + 3).to(dtype)
    others = {name: torch.randn(sizes[name], device=device).to(dtype) for name in has.split()}
    return x, {"kind": kind, **others}


def output_reference(*args: Any) -> torch.Tensor:
    return norm_reference(*args)[0]


def sum_reference(*args: Any) -> torch.Tensor:
    return norm_reference(*args)[1]


def reference_args(x: torch.Tensor, options: dict[str, Any], eps: float, weight_offset: float = 0.0) -> tuple[Any, ...]:
    tensors = [options.get(name) for name in ("weight", "bias", "residual", "x_bias")]
    return (x, *tensors, options["kind"], eps, weight_offset, None, True, True)


@pytest.mark.parametrize(("kind", "has", "tokens", "dim", "dtype"), CASES)
def test_output_and_sum_are_within_a_rounding_of_the_exact(
    device: torch.device, kind: str, has: str, tokens: int, dim: int, dtype: torch.dtype
) -> None:
    x, options = inputs(kind, has, tokens, dim, dtype, device)
    output, total, codes, scale = add_norm(x, eps=1e-5, **options)
    assert output is not None
    assert total is not None
    assert codes is scale is None
    assert output.dtype == total.dtype == dtype
    args = reference_args(x, options, 1e-5)
    assert_as_near_as_reference(output, output_reference, *args, low_precision=torch.float32)
    assert_as_near_as_reference(total, sum_reference, *args, low_precision=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_reference_is_pytorch_s(dtype: torch.dtype) -> None:
    x, options = inputs("layer", "weight bias residual x_bias", 7, 96, torch.float32, torch.device("cpu"))
    x, options = x.to(dtype), {name: value.to(dtype) for name, value in options.items() if name != "kind"}
    weight, bias = options["weight"], options["bias"]
    total = (x.double() + options["x_bias"].double() + options["residual"].double()).to(dtype)
    layer = functional.layer_norm(total, (96,), weight, bias, 1e-5)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2}[dtype]
    torch.testing.assert_close(layer_norm(x, **options), layer, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        rms_norm(x, weight, residual=options["residual"], x_bias=options["x_bias"]),
        functional.rms_norm(total, (96,), weight, 1e-6),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rms_norm_is_that_of_llama_and_gemma(device: torch.device, dtype: torch.dtype) -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    gemma = pytest.importorskip("transformers.models.gemma.modeling_gemma")
    x = torch.randn(33, 96, device=device).to(dtype)
    for module, offset in ((llama.LlamaRMSNorm(96, 1e-6), 0.0), (gemma.GemmaRMSNorm(96, 1e-6), 1.0)):
        module = module.to(device, dtype)
        torch.nn.init.normal_(module.weight)
        expected = module(x).detach()
        actual = rms_norm(x, module.weight.detach(), weight_offset=offset)
        torch.testing.assert_close(actual, expected, rtol=3 * torch.finfo(dtype).eps, atol=1e-6)


def test_weights_of_another_dtype(device: torch.device) -> None:
    x, options = inputs("layer", "weight bias residual x_bias", 5, 200, torch.float16, device)
    options.update({name: options[name].float() / 3 for name in ("weight", "bias", "x_bias")})
    output = add_norm(x, eps=1e-12, weight_offset=1.0, **options).output
    assert output is not None
    args = reference_args(x, options, 1e-12, 1.0)
    assert_as_near_as_reference(output, output_reference, *args, low_precision=torch.float32)


@pytest.mark.parametrize("format", ["int8", "fp8"])
@pytest.mark.parametrize(("dim", "dtype"), [(100, torch.float16), (768, torch.float32), (1024, torch.bfloat16)])
def test_codes_are_those_of_the_output_quantized(
    device: torch.device, format: str, dim: int, dtype: torch.dtype
) -> None:
    x, options = inputs("layer", "weight bias residual", 19, dim, dtype, device)
    x[3], options["residual"][3] = 0, 0
    options["bias"] = None if dim == 100 else options["bias"]
    everything = add_norm(x, quantize=format, **options)
    assert everything.output is not None
    assert everything.codes is not None
    assert everything.scale is not None
    codes, scale = quantize_rows(everything.output, format)
    assert torch.equal(everything.codes.float(), codes.float())
    assert everything.codes.dtype == codes.dtype
    assert torch.equal(everything.scale, scale)
    only = add_norm(x, quantize=format, with_output=False, with_sum=False, **options)
    assert only.output is only.sum is None
    assert only.codes is not None
    assert only.scale is not None
    assert torch.equal(only.codes.float(), codes.float())
    assert torch.equal(only.scale, scale)


def test_reference_s_codes_are_those_of_its_output() -> None:
    x, options = inputs("rms", "weight residual", 5, 48, torch.float16, torch.device("cpu"))
    output, _, codes, scale = add_norm(x, quantize="int8", **options)
    assert output is not None
    expected_codes, expected_scale = quantize_rows(output, "int8")
    torch.testing.assert_close(codes, expected_codes, rtol=0, atol=0)
    torch.testing.assert_close(scale, expected_scale, rtol=0, atol=0)


def test_heads_and_strided_rows(device: torch.device) -> None:
    qkv = torch.randn(11, 3 * 4 * 32, device=device).half()
    heads = qkv[:, 4 * 32 : 8 * 32].unflatten(1, (4, 32))
    weight = torch.randn(32, device=device).half()
    rows = heads.reshape(-1, 32)
    for residual in (None, qkv[:, : 4 * 32].unflatten(1, (4, 32))):
        flat = None if residual is None else residual.reshape(-1, 32)
        actual = add_norm(heads, weight, kind="rms", residual=residual, quantize="int8")
        expected = add_norm(rows, weight, kind="rms", residual=flat, quantize="int8")
        for one, other in zip(actual, expected, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one.flatten(), other.flatten())
        assert actual.scale is not None
        assert actual.scale.shape == (11, 4)
    wide = torch.randn(9, 300, device=device)
    assert torch.equal(rms_norm(wide[:, 50:150], None), rms_norm(wide[:, 50:150].contiguous(), None))


def test_no_rows_and_independent_rows(device: torch.device) -> None:
    x, options = inputs("layer", "weight bias residual", 40, 96, torch.float16, device)
    order = torch.randperm(40, device=device)
    whole = layer_norm(x, options["weight"], options["bias"], residual=options["residual"])
    permuted = layer_norm(x[order], options["weight"], options["bias"], residual=options["residual"][order])
    assert torch.equal(permuted, whole[order])
    assert layer_norm(x[:0], None).shape == (0, 96)
    nothing = add_norm(x[:0], quantize="fp8")
    assert [None if part is None else list(part.shape) for part in nothing] == [[0, 96], [0, 96], [0, 96], [0]]


def test_outputs_are_never_the_inputs() -> None:
    x = torch.randn(3, 8)
    total = add_norm(x).sum
    assert total is not None
    assert total.data_ptr() != x.data_ptr()
    torch.testing.assert_close(total, x, rtol=0, atol=0)


def test_errors_name_the_argument() -> None:
    x = torch.randn(4, 8)
    with pytest.raises(ArgumentError, match=r"x has shape \[4\]; it must be \[tokens, dim\]"):
        layer_norm(torch.randn(4), None)
    with pytest.raises(ArgumentError, match=r"weight has shape \[9\]; it must be \[8\]"):
        layer_norm(x, torch.randn(9))
    with pytest.raises(ArgumentError, match=r"residual has shape \[3, 8\]; it must be \[4, 8\]"):
        rms_norm(x, None, residual=torch.randn(3, 8))
    with pytest.raises(ArgumentError, match="residual has dtype float16 and must have that of x, float32"):
        rms_norm(x, None, residual=torch.randn(4, 8).half())
    with pytest.raises(ArgumentError, match="the last dimension of x is 16385; it must be from 1 to 16384"):
        rms_norm(torch.randn(1, 16385), None)
    with pytest.raises(ArgumentError, match="quantize is 'int4'; allowed: None, 'int8', 'fp8'"):
        add_norm(x, quantize="int4")
    with pytest.raises(ArgumentError, match="kind is 'batch'; allowed: 'layer', 'rms'"):
        add_norm(x, kind="batch")
    with pytest.raises(ArgumentError, match="eps is -1"):
        add_norm(x, eps=-1)
    with pytest.raises(ArgumentError, match=r"weight_offset is 1\.0 and there is no weight"):
        rms_norm(x, None, weight_offset=1.0)
    with pytest.raises(ArgumentError, match="nothing is asked for"):
        add_norm(x, with_output=False, with_sum=False)


def test_heads_may_be_two_billion_elements_apart(device: torch.device) -> None:
    # Pages that nobody touches are not there.
    x = torch.zeros(2**31 + 64, dtype=torch.float16, device=device).as_strided((2, 3, 16), (16, 2**30, 1))
    x.copy_(torch.randn(2, 3, 16))
    assert torch.equal(rms_norm(x, None, residual=x), rms_norm(x.contiguous(), None, residual=x.contiguous()))


def test_wide_fp32_rows_are_quantized_in_a_second_pass(device: torch.device) -> None:
    x = torch.randn(2, 1, WIDEST_QUANTIZED_ROW_BYTES // 4 + 1, device=device)
    found = add_norm(x, quantize="int8", with_output=False)
    codes, scale = quantize_rows(layer_norm(x, None)[:, 0], "int8")
    assert found.output is None
    assert found.codes is not None and torch.equal(found.codes, codes[:, None])
    assert found.scale is not None and torch.equal(found.scale, scale[:, None])
