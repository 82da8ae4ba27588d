"""Softmax of rows of any length.

    out[r] = softmax(scale · x[r] + bias[r])

A row that fits is held in registers and read once; a longer one is read twice, block by block, the second time from
its end, whose blocks the caches still hold.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_range, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.language.online_softmax import add_block, exp, finite
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters

LONGEST_IN_REGISTERS = 16384


def softmax_reference(x: torch.Tensor, scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    """`softmax` in plain PyTorch."""
    compute = compute_dtype(x)
    scores = x.to(compute) * scale
    return torch.softmax(scores if bias is None else scores + bias.to(compute), dim=-1).to(x.dtype)


@triton.jit
def _load_scores(x_ptr, bias_ptr, row_offs, col_offs, mask, x_stride, bias_stride, scale):
    """Scores in fp32, -inf where masked."""
    x = tl.load(x_ptr + row_offs[:, None] * x_stride + col_offs[None, :], mask=mask, other=float("-inf"))
    scores = x.to(tl.float32) * scale
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + row_offs[:, None] * bias_stride + col_offs[None, :], mask=mask, other=0.0)
        scores += bias.to(tl.float32)
    # A negative scale turns the -inf of masked columns round.
    return tl.where(mask, scores, float("-inf"))


@triton.jit(do_not_specialize=["rows"])
def _softmax_kernel(
    x_ptr, bias_ptr, out_ptr, rows, n, x_stride, bias_stride, scale, ROWS: tl.constexpr, BLOCK_N: tl.constexpr
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col_offs = tl.arange(0, BLOCK_N)
    mask = (row_offs[:, None] < rows) & (col_offs[None, :] < n)
    scores = _load_scores(x_ptr, bias_ptr, row_offs, col_offs, mask, x_stride, bias_stride, scale)
    weights = exp(scores - tl.max(scores, axis=1)[:, None])
    weights *= (1.0 / tl.sum(weights, axis=1))[:, None]
    tl.store(out_ptr + row_offs[:, None] * n + col_offs[None, :], weights.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows"])
def _long_softmax_kernel(x_ptr, bias_ptr, out_ptr, rows, n, x_stride, bias_stride, scale, BLOCK_N: tl.constexpr):
    row_offs = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)
    largest = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    for first in tl.range(0, n, BLOCK_N, num_stages=3):
        col_offs = first + tl.arange(0, BLOCK_N)
        mask = col_offs[None, :] < n
        scores = _load_scores(x_ptr, bias_ptr, row_offs, col_offs, mask, x_stride, bias_stride, scale)
        largest, total = add_block(largest, total, scores)
    shift = finite(largest)[:, None]
    factor = (1.0 / total)[:, None]
    blocks = tl.cdiv(n, BLOCK_N)
    for block in tl.range(blocks, num_stages=3):
        col_offs = (blocks - 1 - block) * BLOCK_N + tl.arange(0, BLOCK_N)
        mask = col_offs[None, :] < n
        scores = _load_scores(x_ptr, bias_ptr, row_offs, col_offs, mask, x_stride, bias_stride, scale)
        weights = (exp(scores - shift) * factor).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row_offs[:, None] * n + col_offs[None, :], weights, mask=mask)


def _softmax(x: torch.Tensor, scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    rows, n = x.shape
    out = torch.empty(rows, n, dtype=x.dtype, device=x.device)
    bias_stride = bias.stride(0) if bias is not None and bias.dim() == 2 else 0
    args = (x, bias, out, rows, n, x.stride(0), bias_stride, scale)
    if n > LONGEST_IN_REGISTERS:
        parameters = dict(launch_parameters("softmax", "long", x.device))
        block = parameters.pop("BLOCK_BYTES") // x.element_size()
        launch(_long_softmax_kernel, (rows,), *args, BLOCK_N=block, **parameters)
        return out
    block = triton.next_power_of_2(n)
    parameters = dict(launch_parameters("softmax", f"n<={block}", x.device))
    height = max(1, parameters.pop("TILE") // block)
    launch(_softmax_kernel, (triton.cdiv(rows, height),), *args, ROWS=height, BLOCK_N=block, **parameters)
    return out


def _shapes(x: torch.Tensor, scale: float, bias: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty(x.shape)


_op = register("softmax", reference=softmax_reference, kernel=_softmax, shapes=_shapes)


def softmax(x: torch.Tensor, *, scale: float = 1.0, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax of scale · x + bias over the last axis, in fp32.

    x:     [rows, n], fp16/bf16/fp32; rows may be strided. Any n; a row is read once up to 16,384.
    bias:  [n], the same for every row, or [rows, n]; fp16/bf16/fp32. -inf takes a place out; a row of nothing but -inf
           is NaN, as of torch.softmax.
    returns [rows, n], dtype of x

    Raises ArgumentError.
    """
    check_tensor("x", x, ("rows", "n"))
    check_range("the last dimension of x", x.shape[1], 1)
    if bias is not None:
        if isinstance(bias, torch.Tensor) and bias.dim() not in (1, 2):
            raise ArgumentError(f"bias has shape {list(bias.shape)}; it must be [n] or [rows, n]")
        check_tensor("bias", bias, x.shape[-bias.dim() :] if isinstance(bias, torch.Tensor) else ("n",), like=x)
    out: torch.Tensor = _op(x, float(scale), bias)
    return out
