"""What follows a matrix product: scales, bias, activation, residual, requantization, all on the accumulator.

y = activation(acc · x_scale[m] · weight_scale[n] + bias[n]) + residual[m, n],        codes = round(y / out_scale)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ridgeline_kernels.language.activations import ACTIVATIONS, apply_activation
from ridgeline_kernels.language.rounding import CODES, codes_for_store, to_code
from ridgeline_kernels.launching import launch
from ridgeline_kernels.parameters import launch_parameters

CODE_MAX = dict(CODES.values())
"""Dtype of codes → largest magnitude."""


@dataclass(frozen=True)
class Epilogue:
    """What to do with x Wᵀ [tokens, out], and the dtype to store it in.

    x_scale:      [tokens] fp32, of quantized rows; weight_scale: [out] fp32. Both or neither.
    bias:         [out]
    residual:     [tokens, out], rows may be strided
    out_scale:    step of the codes stored when out_dtype is int8 or float8_e4m3fn
    """

    out_dtype: torch.dtype
    bias: torch.Tensor | None = None
    activation: str = "none"
    residual: torch.Tensor | None = None
    x_scale: torch.Tensor | None = None
    weight_scale: torch.Tensor | None = None
    out_scale: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done but what every library's matrix product does: scales and a bias."""
        return self.activation == "none" and self.residual is None and self.out_scale is None

    @property
    def is_wide(self) -> bool:
        """Whether the residual or the result has elements of more than 16 bits."""
        return self.out_dtype.itemsize > 2 or (self.residual is not None and self.residual.itemsize > 2)

    @property
    def step(self) -> float | None:
        """1 / out_scale: kernels multiply by it."""
        return None if self.out_scale is None else 1.0 / self.out_scale

    @property
    def code_max(self) -> float:
        """Largest magnitude of the codes to store; 0 when none are stored."""
        return CODE_MAX.get(self.out_dtype, 0.0)


def finish_reference(product: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """The epilogue of `product` [tokens, out] in plain PyTorch, in the dtype of `product`."""
    y = product
    if epilogue.x_scale is not None and epilogue.weight_scale is not None:
        y = y * epilogue.x_scale.to(y.dtype)[:, None] * epilogue.weight_scale.to(y.dtype)
    if epilogue.bias is not None:
        y = y + epilogue.bias.to(y.dtype)
    y = ACTIVATIONS[epilogue.activation](y)
    if epilogue.residual is not None:
        y = y + epilogue.residual.to(y.dtype)
    if epilogue.out_scale is not None:
        y = (y / epilogue.out_scale).clamp(-epilogue.code_max, epilogue.code_max)
        y = y.round() if epilogue.out_dtype == torch.int8 else y
    return y.to(epilogue.out_dtype)


@triton.jit
def finish_tile(
    acc,
    row_offs,
    col_offs,
    out_ptr,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    residual_ptr,
    inverse_out_scale,
    rows,
    out_size,
    residual_stride,
    ACTIVATION: tl.constexpr,
    CODE_MAX: tl.constexpr,
):
    """The epilogue of one tile of the accumulator [BLOCK_M, BLOCK_N], in the element type of out_ptr."""
    row_mask = row_offs < rows
    col_mask = col_offs < out_size
    y = acc.to(tl.float32)
    if x_scale_ptr is not None:
        x_scale = tl.load(x_scale_ptr + row_offs, mask=row_mask, other=0.0)
        weight_scale = tl.load(weight_scale_ptr + col_offs, mask=col_mask, other=0.0)
        y = y * x_scale[:, None] * weight_scale[None, :]
    if bias_ptr is not None:
        y += tl.load(bias_ptr + col_offs, mask=col_mask, other=0.0).to(tl.float32)[None, :]
    y = apply_activation(y, ACTIVATION)
    if residual_ptr is not None:
        residual_ptrs = residual_ptr + row_offs.to(tl.int64)[:, None] * residual_stride + col_offs[None, :]
        y += tl.load(residual_ptrs, mask=row_mask[:, None] & col_mask[None, :], other=0.0).to(tl.float32)
    if inverse_out_scale is not None:
        return to_code(y * inverse_out_scale, out_ptr, CODE_MAX)
    return y.to(out_ptr.dtype.element_ty)


@triton.jit(do_not_specialize=["rows", "inverse_out_scale"])
def _finish_kernel(
    parts_ptr,
    out_ptr,
    x_scale_ptr,
    weight_scale_ptr,
    bias_ptr,
    residual_ptr,
    inverse_out_scale,
    rows,
    out_size,
    residual_stride,
    ACTIVATION: tl.constexpr,
    CODE_MAX: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row_offs = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col_offs = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs = row_offs.to(tl.int64)[:, None] * out_size + col_offs[None, :]
    mask = (row_offs < rows)[:, None] & (col_offs < out_size)[None, :]
    acc = tl.load(parts_ptr + offs, mask=mask, other=0)
    for split in tl.static_range(1, SPLITS):
        acc += tl.load(parts_ptr + offs + split * (rows.to(tl.int64) * out_size), mask=mask, other=0)
    y = finish_tile(
        acc,
        row_offs,
        col_offs,
        out_ptr,
        x_scale_ptr,
        weight_scale_ptr,
        bias_ptr,
        residual_ptr,
        inverse_out_scale,
        rows,
        out_size,
        residual_stride,
        ACTIVATION,
        CODE_MAX,
    )
    tl.store(out_ptr + offs, y, mask=mask)


def finish(parts: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """The epilogue of the sum of `parts` [splits, tokens, out], summed in their order: a new tensor [tokens, out]."""
    splits, rows, out_size = parts.shape
    out = torch.empty(rows, out_size, dtype=epilogue.out_dtype, device=parts.device)
    parameters = launch_parameters("linear_finish", f"splits={splits}", parts.device)
    grid = (triton.cdiv(rows, parameters["ROWS"]), triton.cdiv(out_size, parameters["BLOCK_N"]))
    launch(
        _finish_kernel,
        grid,
        parts,
        codes_for_store(out),
        *arguments_of(epilogue),
        rows,
        out_size,
        residual_stride(epilogue),
        ACTIVATION=epilogue.activation,
        CODE_MAX=epilogue.code_max,
        SPLITS=splits,
        **parameters,
    )
    return out


def arguments_of(epilogue: Epilogue) -> tuple[torch.Tensor | float | None, ...]:
    """x_scale, weight_scale, bias, residual and 1 / out_scale, as kernels take them; None for what is absent."""
    return epilogue.x_scale, epilogue.weight_scale, epilogue.bias, epilogue.residual, epilogue.step


def residual_stride(epilogue: Epilogue) -> int:
    """Elements from one row of the residual to the next."""
    return 0 if epilogue.residual is None else epilogue.residual.stride(0)
