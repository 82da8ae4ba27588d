"""QuantizeRows and QuantizedLinear: symmetric codes of int8 or float8_e4m3fn."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.activations import activation_words
from ridgeline_export.packed.bodies.linear import finish


def rows_words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The format."""
    return (str(attributes["format"]),)


def rows_body(words: AbstractSet[str]) -> str:
    """Round and Cast round ties to even; a quotient that underflows to zero has scale 1, as a row of zeros has."""
    largest = 127.0 if "int8" in words else 448.0
    text = f"""
    x_float = Cast<to = 1>(x)
    magnitudes = Abs(x_float)
    last_axis = Constant<value_ints = [-1]>()
    magnitude = ReduceMax<keepdims = 1>(magnitudes, last_axis)
    largest = Constant<value_float = {largest}>()
    least = Neg(largest)
    quotient = Div(magnitude, largest)
    zero = Constant<value_float = 0.0>()
    one = Constant<value_float = 1.0>()
    is_zero = Equal(quotient, zero)
    scales = Where(is_zero, one, quotient)
    scale = Squeeze(scales, last_axis)
    unheld = Div(x_float, scales)
    held = Clip(unheld, least, largest)
"""
    if "int8" in words:
        return text + "    rounded = Round(held)\n    codes = Cast<to = 3>(rounded)\n"
    return text + "    codes = Cast<to = 17>(held)\n"


def linear_words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The format, and the activation, if any."""
    return (str(attributes["format"]), *activation_words(attributes))


def linear_body(words: AbstractSet[str]) -> str:
    """Sums of int8 codes are integers below 2^53, which float64 adds up exactly in any order.

    MatMulInteger would say the same, but runtimes saturate its partial sums on x86 CPUs without VNNI.
    """
    double = 11 if "int8" in words else 1
    text = f"""
    codes_wide = Cast<to = {double}>(codes)
    weight_wide = Cast<to = {double}>(weight_codes)
    columns = Transpose<perm = [1, 0]>(weight_wide)
    sums = MatMul(codes_wide, columns)
    sums_float = Cast<to = 1>(sums)
    last_axis = Constant<value_ints = [-1]>()
    row_scale = Unsqueeze(scale, last_axis)
    by_row = Mul(sums_float, row_scale)
    product = Mul(by_row, weight_scale)
"""
    return text + finish(words, "product", "y_float") + "    y = Cast<to: int = @to>(y_float)\n"
