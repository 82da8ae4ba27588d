"""Rows to int8 or fp8 codes with one scale a row, as the quantized linears take them.

    scale[t] = max |x[t]| / 127 (int8) or / 448 (fp8 e4m3)        codes[t] = round(x[t] / scale[t])

A row of zeros has scale 1, and a row with a NaN scale NaN, so that codes · scale is NaN; its int8 codes are any.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_choice, check_range, check_tensor
from ridgeline_kernels.language.rounding import CODES, codes_for_store, quantize_symmetric, row_scale, to_code
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters

WIDEST_IN_REGISTERS = 32768
"""Columns of a row that a program holds until its scale is known; a wider one is read twice."""


def quantize_rows_reference(x: torch.Tensor, format: str) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantize_rows` in plain PyTorch."""
    return quantize_symmetric(x.to(compute_dtype(x)), format)


@triton.jit(do_not_specialize=["rows"])
def _quantize_rows_kernel(
    x_ptr, codes_ptr, scale_ptr, rows, dim, x_stride, CODE_MAX: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col_offs = tl.arange(0, BLOCK_D)
    mask = (row_offs[:, None] < rows) & (col_offs[None, :] < dim)
    x = tl.load(x_ptr + row_offs[:, None] * x_stride + col_offs[None, :], mask=mask, other=0.0).to(tl.float32)
    scale = row_scale(x, CODE_MAX)
    codes = to_code(x / scale[:, None], codes_ptr, CODE_MAX)
    tl.store(codes_ptr + row_offs[:, None] * dim + col_offs[None, :], codes, mask=mask)
    tl.store(scale_ptr + row_offs, scale, mask=row_offs < rows)


@triton.jit(do_not_specialize=["rows"])
def _quantize_wide_rows_kernel(
    x_ptr, codes_ptr, scale_ptr, rows, dim, x_stride, CODE_MAX: tl.constexpr, BLOCK_D: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    largest = tl.zeros([1, BLOCK_D], tl.float32)
    for first in range(0, dim, BLOCK_D):
        col_offs = first + tl.arange(0, BLOCK_D)[None, :]
        x = tl.load(x_ptr + row * x_stride + col_offs, mask=col_offs < dim, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(x), propagate_nan=tl.PropagateNan.ALL)
    scale = row_scale(largest, CODE_MAX)
    tl.store(scale_ptr + row + tl.arange(0, 1), scale)
    # Backwards: what was read last is still in the cache.
    blocks = tl.cdiv(dim, BLOCK_D)
    for block in range(blocks):
        col_offs = (blocks - 1 - block) * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
        x = tl.load(x_ptr + row * x_stride + col_offs, mask=col_offs < dim, other=0.0).to(tl.float32)
        codes = to_code(x / scale[:, None], codes_ptr, CODE_MAX)
        tl.store(codes_ptr + row * dim + col_offs, codes, mask=col_offs < dim)


def _quantize_rows(x: torch.Tensor, format: str) -> tuple[torch.Tensor, torch.Tensor]:
    rows, dim = x.shape
    dtype, largest = CODES[format]
    codes = torch.empty(rows, dim, dtype=dtype, device=x.device)
    scale = torch.empty(rows, dtype=torch.float32, device=x.device)
    args = (x, codes_for_store(codes), scale, rows, dim, x.stride(0))
    if dim > WIDEST_IN_REGISTERS:
        parameters = launch_parameters("quantize_rows", "wide", x.device)
        launch(_quantize_wide_rows_kernel, (rows,), *args, CODE_MAX=largest, **parameters)
        return codes, scale
    block = triton.next_power_of_2(dim)
    parameters = launch_parameters("quantize_rows", f"dim<={block}", x.device)
    grid = (triton.cdiv(rows, parameters["ROWS"]),)
    launch(_quantize_rows_kernel, grid, *args, CODE_MAX=largest, BLOCK_D=block, **parameters)
    return codes, scale


def _shapes(x: torch.Tensor, format: str) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape, dtype=CODES[format][0]), x.new_empty(x.shape[0], dtype=torch.float32)


_op = register("quantize_rows", reference=quantize_rows_reference, kernel=_quantize_rows, shapes=_shapes)


def quantize_rows(x: torch.Tensor, format: str = "int8") -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize each row of `x` symmetrically by its own largest magnitude.

    x:       [tokens, dim], fp16/bf16/fp32; any dim, and rows of up to 32,768 are read once
    format:  "int8" or "fp8" (e4m3)
    returns codes [tokens, dim], int8 or float8_e4m3fn, and scale [tokens] fp32: x ≈ codes · scale[:, None]

    Raises ArgumentError.
    """
    check_tensor("x", x, ("tokens", "dim"))
    check_range("the last dimension of x", x.shape[1], 1)
    check_choice("format", format, tuple(CODES))
    codes, scale = _op(x, format)
    return codes, scale
