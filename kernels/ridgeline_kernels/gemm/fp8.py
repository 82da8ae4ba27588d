"""Linear layers over fp8 (e4m3) codes, with one scale a token and one an output channel.

    y = activation((x_codes W_codesᵀ) · x_scale[t] · weight_scale[n] + bias) + residual

Tensor cores multiply fp8 from sm_89 on. Before, codes are widened to fp16, which holds each of them exactly, and
multiplied in fp16: the same sums, at the speed of fp16 and a pass over the codes.
"""

from __future__ import annotations

import torch

from ridgeline_kernels.devices import chip_of
from ridgeline_kernels.gemm.dispatch import run_linear
from ridgeline_kernels.gemm.epilogue import finish_reference
from ridgeline_kernels.gemm.quantized import check_quantized, quantized_shapes, scaled_epilogue
from ridgeline_kernels.language.rounding import CODES
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register

_LEAST_CAPABILITY = 89


def fp8_linear_reference(
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
    """`fp8_linear` in plain PyTorch."""
    dtype = compute_dtype(x_scale)
    product = x_codes.to(dtype) @ weight_codes.to(dtype).t()
    epilogue = scaled_epilogue(x_scale, weight_scale, bias, activation, residual, out_dtype, out_scale)
    return finish_reference(product.to(compute_dtype(x_scale)), epilogue)


def _fp8_linear(
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
    epilogue = scaled_epilogue(x_scale, weight_scale, bias, activation, residual, out_dtype, out_scale)
    if chip_of(x_codes.device).capability < _LEAST_CAPABILITY:
        return run_linear("linear", x_codes.to(torch.float16), weight_codes.to(torch.float16), epilogue)
    return run_linear("fp8_linear", x_codes, weight_codes, epilogue)


_op = register("fp8_linear", reference=fp8_linear_reference, kernel=_fp8_linear, shapes=quantized_shapes)


def fp8_linear(
    x_codes: torch.Tensor,
    x_scale: torch.Tensor,
    weight_codes: torch.Tensor,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    out_dtype: torch.dtype = torch.float16,
    out_scale: float | None = None,
) -> torch.Tensor:
    """activation(dequantized x Wᵀ + bias) + residual, from fp8 codes; sums of 128 products go to fp32.

    x_codes:      [tokens, in], float8_e4m3fn, rows may be strided, and x_scale [tokens] fp32: of `quantize_rows`
    weight_codes: [out, in], float8_e4m3fn, rows may be strided, and weight_scale [out] fp32: of `quantize_weight`
    bias:         [out], any floating-point dtype
    activation:   a name of `ACTIVATIONS`
    residual:     [tokens, out], fp16/bf16/fp32; rows may be strided
    out_dtype:    fp16/bf16/fp32, of the result
    out_scale:    if given, the result is float8_e4m3fn codes, round(y / out_scale): one step for the whole tensor,
                  known beforehand. A step of each token's own needs its whole row: `quantize_rows` of the result.
    returns [tokens, out]

    Raises ArgumentError.
    """
    check_quantized(
        "fp8",
        x_codes,
        x_scale,
        weight_codes,
        weight_scale,
        bias,
        activation,
        residual,
        out_dtype,
        out_scale,
    )
    stored = out_dtype if out_scale is None else CODES["fp8"][0]
    out: torch.Tensor = _op(x_codes, x_scale, weight_codes, weight_scale, bias, activation, residual, stored, out_scale)
    return out
