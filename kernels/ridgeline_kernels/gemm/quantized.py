"""What int8 and fp8 linears share: their epilogue, its checks, and the quantization of weights."""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import check_choice, check_range, check_tensor
from ridgeline_kernels.gemm.epilogue import Epilogue
from ridgeline_kernels.gemm.half import check_epilogue
from ridgeline_kernels.language.rounding import CODES, quantize_symmetric


def quantize_weight(weight: torch.Tensor, format: str = "int8") -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize each output channel of a weight symmetrically by its own largest magnitude, once, before serving.

    weight: [out, in], fp16/bf16/fp32
    format: "int8" or "fp8" (e4m3)
    returns codes [out, in], int8 or float8_e4m3fn, and scale [out] fp32: weight ≈ codes · scale[:, None]. A channel of
    zeros has scale 1, one with a NaN scale NaN.

    Raises ArgumentError.
    """
    check_tensor("weight", weight, ("out", "in"))
    check_choice("format", format, tuple(CODES))
    return quantize_symmetric(weight.float(), format)


def scaled_epilogue(
    x_scale: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: float | None,
) -> Epilogue:
    """The epilogue of a product of codes."""
    return Epilogue(out_dtype, bias, activation, residual, x_scale, weight_scale, out_scale)


def quantized_shapes(
    x_codes: torch.Tensor,
    x_scale: torch.Tensor,
    weight_codes: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: float | None,
) -> torch.Tensor:
    """An empty result of a linear over codes, for tracing."""
    return x_codes.new_empty(x_codes.shape[0], weight_codes.shape[0], dtype=out_dtype)


def check_quantized(
    format: str,
    x_codes: torch.Tensor,
    x_scale: torch.Tensor,
    weight_codes: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: float | None,
) -> None:
    """Raise ArgumentError unless the arguments of a linear over codes of `format` fit together."""
    codes = (CODES[format][0],)
    check_tensor("x_codes", x_codes, ("tokens", "in"), dtypes=codes)
    check_tensor("weight_codes", weight_codes, ("out", x_codes.shape[1]), dtypes=codes, like=x_codes)
    check_tensor("x_scale", x_scale, (x_codes.shape[0],), dtypes=(torch.float32,), like=x_codes)
    check_tensor("weight_scale", weight_scale, (weight_codes.shape[0],), dtypes=(torch.float32,), like=x_codes)
    check_epilogue(x_codes, weight_codes, bias, activation, residual, out_dtype)
    if out_scale is not None:
        check_range("out_scale", out_scale, 1e-30)
