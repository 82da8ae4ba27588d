"""Linear layers over int8 codes (W8A8): exact int32 sums, then one step a token and one an output channel.

y = activation((x_codes W_codesᵀ) · x_scale[t] · weight_scale[n] + bias) + residual
"""

from __future__ import annotations

import torch

from ridgeline_kernels.gemm.dispatch import run_linear
from ridgeline_kernels.gemm.epilogue import finish_reference
from ridgeline_kernels.gemm.quantized import check_quantized, quantized_shapes, scaled_epilogue
from ridgeline_kernels.language.rounding import CODES
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register


def int8_linear_reference(
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
    """`int8_linear` in plain PyTorch."""
    # Exact: |sums| stay below 2^53.
    product = x_codes.double() @ weight_codes.double().t()
    epilogue = scaled_epilogue(x_scale, weight_scale, bias, activation, residual, out_dtype, out_scale)
    return finish_reference(product.to(compute_dtype(x_scale)), epilogue)


def _int8_linear(
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
    return run_linear("int8_linear", x_codes, weight_codes, epilogue)


_op = register("int8_linear", reference=int8_linear_reference, kernel=_int8_linear, shapes=quantized_shapes)


def int8_linear(
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
    """activation(dequantized x Wᵀ + bias) + residual, from int8 codes; the sums are exact in int32.

    x_codes:      [tokens, in], int8, rows may be strided, and x_scale [tokens] fp32: of `quantize_rows`
    weight_codes: [out, in], int8, rows may be strided, and weight_scale [out] fp32: of `quantize_weight`
    bias:         [out], any floating-point dtype
    activation:   a name of `ACTIVATIONS`
    residual:     [tokens, out], fp16/bf16/fp32; rows may be strided
    out_dtype:    fp16/bf16/fp32, of the result
    out_scale:    if given, the result is int8 codes, round(y / out_scale): one step for the whole tensor,
                  known beforehand. A step of each token's own needs its whole row: `quantize_rows` of the result.
    returns [tokens, out]

    Raises ArgumentError.
    """
    check_quantized(
        "int8",
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
    stored = out_dtype if out_scale is None else CODES["int8"][0]
    out: torch.Tensor = _op(x_codes, x_scale, weight_codes, weight_scale, bias, activation, residual, stored, out_scale)
    return out
