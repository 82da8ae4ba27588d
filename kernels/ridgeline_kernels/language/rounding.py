"""fp32 to the codes of 8-bit formats."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

INT8_MAX = 127.0
FP8_MAX = 448.0
"""Largest magnitude used in each format; e4m3 has no infinity, int8's -128 is left unused."""

CODES: dict[str, tuple[torch.dtype, float]] = {"int8": (torch.int8, INT8_MAX), "fp8": (torch.float8_e4m3fn, FP8_MAX)}
"""Format → (dtype, largest magnitude)."""


# The interpreter's cast to e4m3 forgets the carry into the next power of two: 31.8 becomes 16.
_NEEDS_ROUNDING = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def row_scale(x, CODE_MAX: tl.constexpr):
    """The scale of each row of x, fp32 [rows, dim] and zero where it is masked: fp32 [rows], 1 for a row of zeros."""
    scale = tl.max(tl.abs(x), axis=1) / CODE_MAX
    return tl.where(scale > 0, scale, 1.0)


@triton.jit
def to_code(x, code_ptr, CODE_MAX: tl.constexpr):
    """x, already divided by its scale, as an element of code_ptr's type: clamped, rounded half to even."""
    x = tl.minimum(tl.maximum(x, -CODE_MAX), CODE_MAX)
    if code_ptr.dtype.element_ty == tl.int8:
        # Adding and taking away 1.5 * 2^23 rounds an fp32 to the nearest integer, halves to even.
        x = (x + 12582912.0) - 12582912.0
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
