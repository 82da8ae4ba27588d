"""Gated activations: SwiGLU, GeGLU and their kin, as they are or quantized for the linear that follows.

out[t] = activation(gate[t] + gate_bias) · (up[t] + up_bias)          (Shazeer 2020, arXiv 2002.05202)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.arguments import check_choice, check_range, check_same_dtype, check_tensor
from ridgeline_kernels.errors import ArgumentError
from ridgeline_kernels.fused.activation import WIDEST_QUANTIZED_ROW_BYTES
from ridgeline_kernels.fused.quantize import quantize_rows, quantize_rows_reference
from ridgeline_kernels.language.activations import ACTIVATIONS, apply_activation
from ridgeline_kernels.language.rounding import CODES, codes_for_store, row_scale, to_code
from ridgeline_kernels.language.tiles import column_block
from ridgeline_kernels.launching import launch
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register
from ridgeline_kernels.parameters import launch_parameters


def gated_activation_reference(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool
) -> torch.Tensor:
    """`gated_activation` of two tensors in plain PyTorch; the halves of bias are [gate | up], or [up | gate]."""
    compute = compute_dtype(gate)
    gated, upped = gate.to(compute), up.to(compute)
    if bias is not None:
        first, second = bias.to(compute).chunk(2)
        gated, upped = (gated + first, upped + second) if gate_first else (gated + second, upped + first)
    return (ACTIVATIONS[activation](gated) * upped).to(gate.dtype)


def quantized_gated_activation_reference(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantized_gated_activation` in plain PyTorch."""
    return quantize_rows_reference(gated_activation_reference(gate, up, bias, activation, gate_first), format)


@triton.jit
def _load_halves(
    gate_ptr, up_ptr, bias_ptr, gate_stride, up_stride, row_offs, col_offs, mask, dim, GATE_FIRST: tl.constexpr
):
    """Gate and up, fp32, with their biases; the bias is masked by columns alone, so that rows share its load."""
    gate_tile = gate_ptr + row_offs[:, None] * gate_stride + col_offs[None, :]
    up_tile = up_ptr + row_offs[:, None] * up_stride + col_offs[None, :]
    gate = tl.load(gate_tile, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(up_tile, mask=mask, other=0.0).to(tl.float32)
    if bias_ptr is not None:
        col_mask = col_offs[None, :] < dim
        first = tl.load(bias_ptr + col_offs[None, :], mask=col_mask, other=0.0).to(tl.float32)
        second = tl.load(bias_ptr + dim + col_offs[None, :], mask=col_mask, other=0.0).to(tl.float32)
        gate += first if GATE_FIRST else second
        up += second if GATE_FIRST else first
    return gate, up


@triton.jit(do_not_specialize=["rows"])
def _gated_activation_kernel(
    gate_ptr,
    up_ptr,
    bias_ptr,
    out_ptr,
    rows,
    dim,
    gate_stride,
    up_stride,
    ACTIVATION: tl.constexpr,
    GATE_FIRST: tl.constexpr,
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
    gate, up = _load_halves(
        gate_ptr, up_ptr, bias_ptr, gate_stride, up_stride, row_offs, col_offs, mask, dim, GATE_FIRST
    )
    y = (apply_activation(gate, ACTIVATION) * up).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row_offs[:, None] * dim + col_offs[None, :], y, mask=mask)


@triton.jit(do_not_specialize=["rows"])
def _quantized_gated_activation_kernel(
    gate_ptr,
    up_ptr,
    bias_ptr,
    codes_ptr,
    scale_ptr,
    rows,
    dim,
    gate_stride,
    up_stride,
    ACTIVATION: tl.constexpr,
    GATE_FIRST: tl.constexpr,
    CODE_MAX: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row_offs = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col_offs = tl.arange(0, BLOCK_D)
    mask = (row_offs[:, None] < rows) & (col_offs[None, :] < dim)
    gate, up = _load_halves(
        gate_ptr, up_ptr, bias_ptr, gate_stride, up_stride, row_offs, col_offs, mask, dim, GATE_FIRST
    )
    # Rounded to the inputs' type first: the codes are those of `quantize_rows` after `gated_activation`. A masked
    # column's up is 0, and so is its product.
    y = (apply_activation(gate, ACTIVATION) * up).to(gate_ptr.dtype.element_ty).to(tl.float32)
    scale = row_scale(y, CODE_MAX)
    codes = to_code(y / scale[:, None], codes_ptr, CODE_MAX)
    tl.store(codes_ptr + row_offs[:, None] * dim + col_offs[None, :], codes, mask=mask)
    tl.store(scale_ptr + row_offs, scale, mask=row_offs < rows)


def _gated_activation(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool
) -> torch.Tensor:
    rows, dim = gate.shape
    out = torch.empty(rows, dim, dtype=gate.dtype, device=gate.device)
    parameters = dict(launch_parameters("gated_activation", "default", gate.device))
    tile = parameters.pop("TILE")
    block = column_block(dim, min(1024, tile))
    height = tile // block
    grid = (triton.cdiv(rows, height) * triton.cdiv(dim, block),)
    constants = {"GATE_FIRST": gate_first, "EVEN": dim % block == 0, "ROWS": height, "BLOCK_D": block}
    args = (gate, up, bias, out, rows, dim, gate.stride(0), up.stride(0))
    launch(_gated_activation_kernel, grid, *args, ACTIVATION=activation, **constants, **parameters)
    return out


def _quantized_gated_activation(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    rows, dim = gate.shape
    # With a bias there is twice as much to hold.
    if dim * gate.element_size() > WIDEST_QUANTIZED_ROW_BYTES // (1 if bias is None else 2):
        return quantize_rows(_gated_activation(gate, up, bias, activation, gate_first), format)
    dtype, largest = CODES[format]
    codes = torch.empty(rows, dim, dtype=dtype, device=gate.device)
    scale = torch.empty(rows, dtype=torch.float32, device=gate.device)
    block = triton.next_power_of_2(dim)
    parameters = launch_parameters("quantized_gated_activation", f"dim<={block}", gate.device)
    constants = {"ACTIVATION": activation, "GATE_FIRST": gate_first, "CODE_MAX": largest, "BLOCK_D": block}
    grid = (triton.cdiv(rows, parameters["ROWS"]),)
    args = (gate, up, bias, codes_for_store(codes), scale, rows, dim, gate.stride(0), up.stride(0))
    launch(_quantized_gated_activation_kernel, grid, *args, **constants, **parameters)
    return codes, scale


def _shapes(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool
) -> torch.Tensor:
    return gate.new_empty(gate.shape)


def _quantized_shapes(
    gate: torch.Tensor, up: torch.Tensor, bias: torch.Tensor | None, activation: str, gate_first: bool, format: str
) -> tuple[torch.Tensor, torch.Tensor]:
    return gate.new_empty(gate.shape, dtype=CODES[format][0]), gate.new_empty(gate.shape[0], dtype=torch.float32)


_op = register("gated_activation", reference=gated_activation_reference, kernel=_gated_activation, shapes=_shapes)
_quantized_op = register(
    "quantized_gated_activation",
    reference=quantized_gated_activation_reference,
    kernel=_quantized_gated_activation,
    shapes=_quantized_shapes,
)


def gated_activation(
    gate_up: torch.Tensor,
    up: torch.Tensor | None = None,
    *,
    activation: str,
    bias: torch.Tensor | None = None,
    gate_first: bool = True,
) -> torch.Tensor:
    """The activation of the gate times up, in fp32.

    gate_up:    [tokens, 2 · dim], both side by side, as one projection gives them; or the gate alone, [tokens, dim],
                with `up`. fp16/bf16/fp32; rows may be strided
    up:         [tokens, dim], dtype of gate_up
    activation: a name of `language.activations.ACTIVATIONS`
    bias:       [2 · dim], dtype of gate_up, in the order of the halves
    gate_first: the halves are [gate | up], as of Llama, Phi-3, T5 and ModernBERT (where the activated half is called
                input and the other gate); False for [up | gate], as of GTE
    returns [tokens, dim], dtype of gate_up

    Raises ArgumentError.
    """
    gate, up = _halves(gate_up, up, activation, bias, gate_first)
    out: torch.Tensor = _op(gate, up, bias, activation, gate_first)
    return out


def swiglu(
    gate_up: torch.Tensor,
    up: torch.Tensor | None = None,
    *,
    bias: torch.Tensor | None = None,
    gate_first: bool = True,
) -> torch.Tensor:
    """silu(gate) · up; the arguments are those of `gated_activation`."""
    return gated_activation(gate_up, up, activation="silu", bias=bias, gate_first=gate_first)


def geglu(
    gate_up: torch.Tensor,
    up: torch.Tensor | None = None,
    *,
    approximate: str = "none",
    bias: torch.Tensor | None = None,
    gate_first: bool = True,
) -> torch.Tensor:
    """gelu(gate) · up, exact or, with approximate="tanh", by tanh; the other arguments are of `gated_activation`."""
    check_choice("approximate", approximate, ("none", "tanh"))
    activation = "gelu" if approximate == "none" else "gelu_tanh"
    return gated_activation(gate_up, up, activation=activation, bias=bias, gate_first=gate_first)


def quantized_gated_activation(
    gate_up: torch.Tensor,
    up: torch.Tensor | None = None,
    *,
    activation: str,
    bias: torch.Tensor | None = None,
    gate_first: bool = True,
    format: str = "int8",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The codes and scales that `quantize_rows` gives of `gated_activation`, in one pass.

    format: "int8" or "fp8" (e4m3); the other arguments are those of `gated_activation`
    returns codes [tokens, dim], int8 or float8_e4m3fn, and scale [tokens] fp32

    Raises ArgumentError.
    """
    check_choice("format", format, tuple(CODES))
    gate, up = _halves(gate_up, up, activation, bias, gate_first)
    check_range("the number of columns of the gate", gate.shape[1], 1)
    codes, scale = _quantized_op(gate, up, bias, activation, gate_first, format)
    return codes, scale


def _halves(
    gate_up: torch.Tensor, up: torch.Tensor | None, activation: str, bias: torch.Tensor | None, gate_first: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    check_choice("activation", activation, tuple(ACTIVATIONS))
    if up is None:
        check_tensor("gate_up", gate_up, ("tokens", "2 · dim"))
        if gate_up.shape[1] % 2:
            raise ArgumentError(f"gate_up has {gate_up.shape[1]} columns; it must have two halves of one size")
        first, second = gate_up.chunk(2, dim=1)
        gate, up = (first, second) if gate_first else (second, first)
    else:
        check_tensor("gate_up", gate_up, ("tokens", "dim"))
        check_tensor("up", up, gate_up.shape, like=gate_up)
        check_same_dtype("up", up, "gate_up", gate_up)
        gate = gate_up
    if bias is not None:
        check_tensor("bias", bias, (2 * gate.shape[1],), like=gate)
        check_same_dtype("bias", bias, "gate_up", gate)
    return gate, up
