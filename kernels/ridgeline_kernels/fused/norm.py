"""Bias + residual + LayerNorm or RMSNorm in one pass, with int8 or fp8 codes of the result where a linear takes them.

    s = x + x_bias + residual
    layer: y = (s - mean s) / sqrt(var s + eps) · (weight_offset + weight) + bias
    rms:   y =  s           / sqrt(mean s² + eps) · (weight_offset + weight) + bias

All in fp32 from the inputs to the one rounding of each output: y is that of the exact s, not of the rounded sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_choice, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference
from ridgeline_kernels.language.normalization import load_columns, normalize_rows
from ridgeline_kernels.language.rounding import CODES, codes_for_store, row_scale, to_code
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters

KINDS = ("layer", "rms")
MAX_DIM = 16384
WIDEST_QUANTIZED_ROW_BYTES = 32768
"""Of a row that a program holds in registers until its scale is known; of a wider one, the op takes two passes."""


class NormOutputs(NamedTuple):
    """What `add_norm` was asked for; the rest is None.

    output: y, dtype and shape of x        codes: of y's rows, int8 or float8_e4m3fn, shape of x
    sum:    s, dtype and shape of x        scale: of y's rows, fp32, shape of x without its last axis
    """

    output: torch.Tensor | None
    sum: torch.Tensor | None
    codes: torch.Tensor | None
    scale: torch.Tensor | None


def normalize(
    s: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, kind: str, eps: float, weight_offset: float
) -> torch.Tensor:
    """The norm over the last axis of s in plain PyTorch, in the dtype of s."""
    if kind == "layer":
        s = s - s.mean(dim=-1, keepdim=True)
    y = s * torch.rsqrt(s.square().mean(dim=-1, keepdim=True) + eps)
    if weight is not None:
        y = y * (weight.to(s.dtype) + weight_offset)
    return y if bias is None else y + bias.to(s.dtype)


def norm_reference(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    x_bias: torch.Tensor | None,
    kind: str,
    eps: float,
    weight_offset: float,
    quantize: str | None,
    with_output: bool,
    with_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(output, sum, codes, scale) of `add_norm` in plain PyTorch; what was not asked for has no elements."""
    s = x.to(compute_dtype(x))
    for term in (x_bias, residual):
        s = s if term is None else s + term.to(s.dtype)
    output = normalize(s, weight, bias, kind, eps, weight_offset).to(x.dtype)
    total = s.to(x.dtype, copy=True) if with_sum else x.new_empty(0)
    codes, scale = x.new_empty(0, dtype=torch.int8), x.new_empty(0, dtype=torch.float32)
    if quantize is not None:
        codes, scale = quantize_rows_reference(output.flatten(0, -2), quantize)
        codes, scale = codes.view(x.shape), scale.view(x.shape[:-1])
    return output if with_output else x.new_empty(0), total, codes, scale


@triton.jit(do_not_specialize=["rows"])
def _norm_kernel(
    x_ptr,
    weight_ptr,
    bias_ptr,
    residual_ptr,
    x_bias_ptr,
    out_ptr,
    sum_ptr,
    codes_ptr,
    scale_ptr,
    rows,
    dim,
    heads,
    x_stride,
    x_head_stride,
    residual_stride,
    residual_head_stride,
    eps,
    weight_offset,
    KIND: tl.constexpr,
    CODE_MAX: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    # A row is a head of a token; with one head Triton folds the division away.
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token, head = (row // heads).to(tl.int64), (row % heads).to(tl.int64)
    col_offs = tl.arange(0, BLOCK_D)
    mask = (row[:, None] < rows) & (col_offs[None, :] < dim)
    x_offs = (token * x_stride + head * x_head_stride)[:, None] + col_offs[None, :]
    s = tl.load(x_ptr + x_offs, mask=mask, other=0.0).to(tl.float32)
    if x_bias_ptr is not None:
        s += load_columns(x_bias_ptr, col_offs, dim)
    if residual_ptr is not None:
        residual_offs = (token * residual_stride + head * residual_head_stride)[:, None] + col_offs[None, :]
        s += tl.load(residual_ptr + residual_offs, mask=mask, other=0.0).to(tl.float32)
    out_offs = row.to(tl.int64)[:, None] * dim + col_offs[None, :]
    if sum_ptr is not None:
        tl.store(sum_ptr + out_offs, s.to(x_ptr.dtype.element_ty), mask=mask)
    y = normalize_rows(s, mask, dim, eps, KIND)
    if weight_ptr is not None:
        y *= load_columns(weight_ptr, col_offs, dim) + weight_offset
    if bias_ptr is not None:
        y += load_columns(bias_ptr, col_offs, dim)
    rounded = y.to(x_ptr.dtype.element_ty)
    if out_ptr is not None:
        tl.store(out_ptr + out_offs, rounded, mask=mask)
    if codes_ptr is not None:
        # Of the rounded y, as if it had been written and read again.
        y = rounded.to(tl.float32)
        scale = row_scale(y, CODE_MAX)
        tl.store(codes_ptr + out_offs, to_code(y / scale[:, None], codes_ptr, CODE_MAX), mask=mask)
        tl.store(scale_ptr + row, scale, mask=row < rows)


def _row_strides(x: torch.Tensor | None) -> tuple[int, int]:
    if x is None:
        return 0, 0
    return x.stride(0), x.stride(1) if x.dim() == 3 else 0


def _norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    x_bias: torch.Tensor | None,
    kind: str,
    eps: float,
    weight_offset: float,
    quantize: str | None,
    with_output: bool,
    with_sum: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    dim = x.shape[-1]
    if quantize is not None and dim * x.element_size() > WIDEST_QUANTIZED_ROW_BYTES:
        output, total, *_ = _norm(x, weight, bias, residual, x_bias, kind, eps, weight_offset, None, True, with_sum)
        codes, scale = quantize_rows(output.flatten(0, -2), quantize)
        return output if with_output else x.new_empty(0), total, codes.view(x.shape), scale.view(x.shape[:-1])
    outputs = _shapes(x, quantize, with_output, with_sum)
    output, total, codes, scale = outputs
    heads = x.shape[1] if x.dim() == 3 else 1
    rows = x.shape[0] * heads
    block = triton.next_power_of_2(dim)
    parameters = launch_parameters("norm", f"dim<={block}", x.device)
    launch(
        _norm_kernel,
        (triton.cdiv(rows, parameters["ROWS"]),),
        *(x, weight, bias, residual, x_bias),
        *(output if with_output else None, total if with_sum else None),
        *(codes_for_store(codes) if quantize else None, scale if quantize else None),
        *(rows, dim, heads, *_row_strides(x), *_row_strides(residual), eps, weight_offset),
        KIND=kind,
        CODE_MAX=CODES[quantize][1] if quantize else 0.0,
        BLOCK_D=block,
        **parameters,
    )
    return outputs


def _shapes(x: torch.Tensor, *args: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    quantize, with_output, with_sum = args[-3:]
    return (
        x.new_empty(x.shape if with_output else 0),
        x.new_empty(x.shape if with_sum else 0),
        x.new_empty(x.shape if quantize else 0, dtype=CODES[quantize][0] if quantize else torch.int8),
        x.new_empty(x.shape[:-1] if quantize else 0, dtype=torch.float32),
    )


_op = register("norm", reference=norm_reference, kernel=_norm, shapes=_shapes)


def add_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    kind: str = "layer",
    eps: float = 1e-5,
    residual: torch.Tensor | None = None,
    x_bias: torch.Tensor | None = None,
    weight_offset: float = 0.0,
    quantize: str | None = None,
    with_output: bool = True,
    with_sum: bool = True,
) -> NormOutputs:
    """Add, normalize, and give what was asked for of the sum, the result, and the result's codes and scales.

    x:             [tokens, dim] or [tokens, heads, dim], fp16/bf16/fp32 (float64 in full on the CPU only); rows may be
                   strided, the last axis dense; dim from 1 to 16,384
    weight, bias:  [dim] of any floating dtype, or None
    kind:          "layer" or "rms"
    residual:      shape and dtype of x, rows may be strided; added to x before the norm
    x_bias:        [dim] of any floating dtype: the bias of the linear that made x
    weight_offset: added to weight: 1 for Gemma's RMSNorm and for LayerNorm1P
    quantize:      None, "int8" or "fp8": also codes and scales of y's rows, the numbers of `quantize_rows(y)`
    with_output, with_sum: whether y and s are written; y may be left out where only its codes are read

    Raises ArgumentError.
    """
    if not isinstance(x, torch.Tensor) or x.dim() != 3:
        check_tensor("x", x, ("tokens", "dim"))
    else:
        check_tensor("x", x, ("tokens", "heads", "dim"))
    dim = x.shape[-1]
    check_range("the last dimension of x", dim, 1, MAX_DIM)
    for name, vector in (("weight", weight), ("bias", bias), ("x_bias", x_bias)):
        if vector is not None:
            check_tensor(name, vector, (dim,), like=x)
    if residual is not None:
        check_tensor("residual", residual, tuple(x.shape), like=x)
        check_same_dtype("residual", residual, "x", x)
    check_choice("kind", kind, KINDS)
    check_choice("quantize", quantize, (None, *CODES))
    check_range("eps", eps, 0.0)
    if weight is None and weight_offset:
        raise ArgumentError(
            f"weight_offset is {weight_offset} and there is no weight to add it to; give one or leave 0"
        )
    if not (with_output or with_sum or quantize):
        raise ArgumentError("with_output and with_sum are False and quantize is None: nothing is asked for")
    output, total, codes, scale = _op(
        x, weight, bias, residual, x_bias, kind, eps, weight_offset, quantize, with_output, with_sum
    )
    return NormOutputs(
        output if with_output else None,
        total if with_sum else None,
        codes if quantize else None,
        scale if quantize else None,
    )


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None = None,
    *,
    eps: float = 1e-5,
    residual: torch.Tensor | None = None,
    x_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """LayerNorm of x + x_bias + residual over the last axis: shape and dtype of x; arguments as in `add_norm`."""
    output = add_norm(x, weight, bias, kind="layer", eps=eps, residual=residual, x_bias=x_bias, with_sum=False).output
    assert output is not None
    return output


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    eps: float = 1e-6,
    residual: torch.Tensor | None = None,
    x_bias: torch.Tensor | None = None,
    weight_offset: float = 0.0,
) -> torch.Tensor:
    """RMSNorm of x + x_bias + residual over the last axis: shape and dtype of x; arguments as in `add_norm`."""
    output = add_norm(
        x,
        weight,
        kind="rms",
        eps=eps,
        residual=residual,
        x_bias=x_bias,
        weight_offset=weight_offset,
        with_sum=False,
    ).output
    assert output is not None
    return output
