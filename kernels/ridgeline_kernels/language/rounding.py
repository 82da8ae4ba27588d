"""fp32 to the codes of 8-bit formats."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ridgeline_kernels.devices import chip_of

INT8_MAX = 127.0
FP8_MAX = 448.0
"""Largest magnitude used in each format; e4m3 has no infinity, int8's -128 is left unused."""

CODES: dict[str, tuple[torch.dtype, float]] = {"int8": (torch.int8, INT8_MAX), "fp8": (torch.float8_e4m3fn, FP8_MAX)}
"""Format → (dtype, largest magnitude)."""


def codes_for_store(codes: torch.Tensor) -> torch.Tensor:
    """A tensor of codes as the kernel that writes them by `to_code` takes it.

    Triton converts to e4m3 from sm_89 on. Below, and under the interpreter, kernels get bytes and make them by hand.
    """
    is_converted = chip_of(codes.device).capability >= 89 and not triton.knobs.runtime.interpret
    return codes if is_converted or codes.dtype != torch.float8_e4m3fn else codes.view(torch.uint8)


# The interpreter's cast to e4m3 forgets the carry into the next power of two: 31.8 becomes 16.
_NEEDS_ROUNDING = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def row_scale(x, CODE_MAX: tl.constexpr):
    """The scale of each row of x, fp32 [rows, dim] and zero where it is masked: fp32 [rows].

    1 for a row of zeros, NaN for one with a NaN.
    """
    # As integers magnitudes are in the same order, and NaN, which tl.max drops, is the largest.
    magnitude = x.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    scale = tl.max(magnitude, axis=1).to(tl.float32, bitcast=True) / CODE_MAX
    return tl.where(scale == 0, 1.0, scale)


@triton.jit
def to_code(x, code_ptr, CODE_MAX: tl.constexpr):
    """x, already divided by its scale, as an element of code_ptr's type: clamped, rounded half to even.

    NaN stays NaN in fp8 and is any code in int8. Elements of uint8 are the bits of e4m3 (see `codes_for_store`).
    """
    x = tl.maximum(x, -CODE_MAX, propagate_nan=tl.PropagateNan.ALL)
    x = tl.minimum(x, CODE_MAX, propagate_nan=tl.PropagateNan.ALL)
    if code_ptr.dtype.element_ty == tl.int8:
        # Adding and taking away 1.5 * 2^23 rounds an fp32 to the nearest integer, halves to even.
        x = (x + 12582912.0) - 12582912.0
    elif code_ptr.dtype.element_ty == tl.uint8:
        x = _e4m3_bits(x)
    elif _NEEDS_ROUNDING:
        x = _round_to_e4m3(x)
    return x.to(code_ptr.dtype.element_ty)


@triton.jit
def _round_to_e4m3(x):
    bits = x.to(tl.int32, bitcast=True)
    bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000
    normal = bits.to(tl.float32, bitcast=True)
    # Below 2^-6 the step is 2^-9, which is that of fp32 at 1.5 * 2^14.
    subnormal = (x + 24576.0) - 24576.0
    return tl.where(tl.abs(x) < 0.015625, subnormal, normal)


@triton.jit
def _e4m3_bits(x):
    """The bits of x, at most 448 or NaN, in e4m3: a sign, 4 bits of an exponent biased by 7, 3 of a mantissa."""
    bits = x.to(tl.int32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    # The carry of the mantissa goes into the exponent; fp32's is biased by 127.
    normal = ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - ((127 - 7) << 3)
    # Below 2^-6 the step is 2^-9, which is that of fp32 at 2^14: the last bits of the sum count the steps.
    subnormal = (tl.abs(x) + 16384.0).to(tl.int32, bitcast=True) & 0xF
    code = tl.where(tl.abs(x) < 0.015625, subnormal, normal)
    code = tl.where(magnitude > 0x7F800000, 0x7F, code)
    return (code | ((bits >> 24) & 0x80)).to(tl.uint8)


def quantize_symmetric(rows: torch.Tensor, format: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales of rows [rows, dim] in plain PyTorch, in their dtype: each by its own largest magnitude.

    returns codes [rows, dim] and scale [rows] fp32. A row of zeros, and one whose quotient is zero, has scale 1, one
    with a NaN scale NaN.
    """
    dtype, largest = CODES[format]
    magnitude = rows.abs().amax(dim=1) if rows.shape[1] else rows.new_zeros(rows.shape[0])
    scale = magnitude / largest
    scale = torch.where(scale == 0, torch.ones_like(scale), scale).float()
    scaled = (rows / scale[:, None]).clamp(-largest, largest)
    return (scaled.round() if format == "int8" else scaled).to(dtype), scale
