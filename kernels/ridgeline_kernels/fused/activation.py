"""Bias and activation in one pass over rows, as they are or quantized for the linear that follows.

out[t] = activation(x[t] + bias)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_choice, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference
from ridgeline_kernels.language.activations import ACTIVATIONS, apply_activation
from ridgeline_kernels.language.rounding import CODES, codes_for_store, row_scale, to_code
from ridgeline_kernels.language.tiles import column_block
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters

WIDEST_QUANTIZED_ROW_BYTES = 65536
"""Of a row that a program holds in registers until its scale is known; of a wider one, the op takes two passes."""


def bias_activation_reference(x: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    """`bias_activation` in plain PyTorch."""
    compute = compute_dtype(x)
    summed = x.to(compute) if bias is None else x.to(compute) + bias.to(compute)
    # A copy even of "none" without a bias: an op's output is never its input.
    return ACTIVATIONS[activation](summed).to(x.dtype, copy=True)


def quantized_bias_activation_reference(
    x: torch.Tensor, bias: torch.Tensor | None, activation: str, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantized_bias_activation` in plain PyTorch."""
    return quantize_rows_reference(bias_activation_reference(x, bias, activation), format)


@triton.jit(do_not_specialize=["rows"])
def _bias_activation_kernel(
    x_ptr,
    bias_ptr,
    out_ptr,
    rows,
    dim,
    x_stride,
    ACTIVATION: tl.constexpr,
    EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    col_blocks = tl.cdiv(dim, BLOCK_D)
    row_offs = (tl.program_id(0) // col_blocks).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col_offs = (tl.program_id(0) % col_blocks) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = row_offs[:, None] < rows
    if not EVEN:
        mask &= col_offs[None, :] < dim
    x = tl.load(x_ptr + row_offs[:, None] * x_stride + col_offs[None, :], mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        col_mask = None if EVEN else col_offs[None, :] < dim
        x += tl.load(bias_ptr + col_offs[None, :], mask=col_mask).to(tl.float32)
    y = apply_activation(x, ACTIVATION).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row_offs[:, None] * dim + col_offs[None, :], y, mask=mask)


@triton.jit(do_not_specialize=["rows"])
def _quantized_bias_activation_kernel(
    x_ptr,
    bias_ptr,
    codes_ptr,
    scale_ptr,
    rows,
    dim,
    x_stride,
    ACTIVATION: tl.constexpr,
    CODE_MAX: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col_offs = tl.arange(0, BLOCK_D)
    mask = (row_offs[:, None] < rows) & (col_offs[None, :] < dim)
    x = tl.load(x_ptr + row_offs[:, None] * x_stride + col_offs[None, :], mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        x += tl.load(bias_ptr + col_offs[None, :], mask=col_offs[None, :] < dim, other=0.0).to(tl.float32)
    # Rounded to x's type first: the codes are those of `quantize_rows` after `bias_activation`.
    y = apply_activation(x, ACTIVATION).to(x_ptr.dtype.element_ty).to(tl.float32)
    y = tl.where(mask, y, 0.0)
    scale = row_scale(y, CODE_MAX)
    codes = to_code(y / scale[:, None], codes_ptr, CODE_MAX)
    tl.store(codes_ptr + row_offs[:, None] * dim + col_offs[None, :], codes, mask=mask)
    tl.store(scale_ptr + row_offs, scale, mask=row_offs < rows)


def _bias_activation(x: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    rows, dim = x.shape
    out = torch.empty(rows, dim, dtype=x.dtype, device=x.device)
    parameters = dict(launch_parameters("bias_activation", "default", x.device))
    tile = parameters.pop("TILE")
    block = column_block(dim, min(1024, tile))
    height = tile // block
    grid = (triton.cdiv(rows, height) * triton.cdiv(dim, block),)
    constants = {"ACTIVATION": activation, "EVEN": dim % block == 0, "ROWS": height, "BLOCK_D": block}
    launch(_bias_activation_kernel, grid, x, bias, out, rows, dim, x.stride(0), **constants, **parameters)
    return out


def _quantized_bias_activation(
    x: torch.Tensor, bias: torch.Tensor | None, activation: str, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, dim = x.shape
    if dim * x.element_size() > WIDEST_QUANTIZED_ROW_BYTES:
        return quantize_rows(_bias_activation(x, bias, activation), format)
    dtype, largest = CODES[format]
    codes = torch.empty(rows, dim, dtype=dtype, device=x.device)
    scale = torch.empty(rows, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(dim)
    parameters = launch_parameters("quantized_bias_activation", f"dim<={block}", x.device)
    constants = {"ACTIVATION": activation, "CODE_MAX": largest, "BLOCK_D": block}
    grid = (triton.cdiv(rows, parameters["ROWS"]),)
    args = (x, bias, codes_for_store(codes), scale, rows, dim, x.stride(0))
    launch(_quantized_bias_activation_kernel, grid, *args, **constants, **parameters)
    return codes, scale


def _shapes(x: torch.Tensor, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    return x.new_empty(x.shape)


def _quantized_shapes(
    x: torch.Tensor, bias: torch.Tensor | None, activation: str, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    return x.new_empty(x.shape, dtype=CODES[format][0]), x.new_empty(x.shape[0], dtype=torch.float32)


_op = register("bias_activation", reference=bias_activation_reference, kernel=_bias_activation, shapes=_shapes)
_quantized_op = register(
    "quantized_bias_activation",
    reference=quantized_bias_activation_reference,
    kernel=_quantized_bias_activation,
    shapes=_quantized_shapes,
)


def bias_activation(x: torch.Tensor, bias: torch.Tensor | None = None, activation: str = "gelu") -> torch.Tensor:
    """Add a bias to every row and apply an activation, in fp32.

    x:          [tokens, dim], fp16/bf16/fp32; rows may be strided
    bias:       [dim], dtype of x
    activation: a name of `language.activations.ACTIVATIONS`: "gelu" (exact), "gelu_tanh", "relu", "silu", "tanh", …
    returns [tokens, dim], dtype of x

    Raises ArgumentError.
    """
    _check(x, bias, activation)
    out: torch.Tensor = _op(x, bias, activation)
    return out


def quantized_bias_activation(
    x: torch.Tensor, bias: torch.Tensor | None = None, activation: str = "gelu", *, format: str = "int8"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes and scales that `quantize_rows` gives of `bias_activation`, in one pass.

    x, bias, activation: as of `bias_activation`
    format:              "int8" or "fp8" (e4m3)
    returns codes [tokens, dim], int8 or float8_e4m3fn, and scale [tokens] fp32

    Raises ArgumentError.
    """
    _check(x, bias, activation)
    check_range("the last dimension of x", x.shape[1], 1)
    check_choice("format", format, tuple(CODES))
    codes, scale = _quantized_op(x, bias, activation, format)
    return codes, scale


def _check(x: torch.Tensor, bias: torch.Tensor | None, activation: str) -> None:
    check_tensor("x", x, ("tokens", "dim"))
    check_choice("activation", activation, tuple(ACTIVATIONS))
    if bias is not None:
        check_tensor("bias", bias, (x.shape[1],), like=x)
        check_same_dtype("bias", bias, "x", x)
