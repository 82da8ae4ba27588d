"""AddNorm: the sum of x and the residual, and its LayerNorm or RMSNorm."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The kind of norm."""
    return (str(attributes["kind"]),)


def body(words: AbstractSet[str]) -> str:
    """The sum is normalized in float32, before it is rounded."""
    text = "    x_float = Cast<to = 1>(x)\n"
    total = "x_float"
    if "residual" in words:
        text += """
    residual_float = Cast<to = 1>(residual)
    total = Add(x_float, residual_float)
"""
        total = "total"
    text += normalize(words, total, "normalized", offset="weight_offset")
    text += "    out = CastLike(normalized, x)\n"
    if "sum" in words:
        text += f"    sum = CastLike({total}, x)\n"
    return text


def normalize(words: AbstractSet[str], x: str, out: str, *, offset: str | None = None) -> str:
    """Lines that make `out` of `x`, both float32: (x - mean) / sqrt(var + epsilon) * weight + bias over the last axis.

    words:  "rms" leaves the mean in; "weight" and "bias" say which there are
    offset: the attribute that is added to weight
    """
    text = "    last_axis = Constant<value_ints = [-1]>()\n"
    centred = x
    if "rms" not in words:
        text += f"""
    mean = ReduceMean<keepdims = 1>({x}, last_axis)
    centred = Sub({x}, mean)
"""
        centred = "centred"
    text += f"""
    squares = Mul({centred}, {centred})
    variance = ReduceMean<keepdims = 1>(squares, last_axis)
    epsilon_value = Constant<value_float: float = @epsilon>()
    above_zero = Add(variance, epsilon_value)
    deviation = Sqrt(above_zero)
    unscaled = Div({centred}, deviation)
"""
    last = "unscaled"
    if "weight" in words:
        text += "    weight_float = Cast<to = 1>(weight)\n"
        weight = "weight_float"
        if offset:
            text += f"""
    offset_value = Constant<value_float: float = @{offset}>()
    weight_sum = Add(weight_float, offset_value)
"""
            weight = "weight_sum"
        text += f"    scaled = Mul(unscaled, {weight})\n"
        last = "scaled"
    if "bias" in words:
        text += f"""
    bias_float = Cast<to = 1>(bias)
    shifted = Add({last}, bias_float)
"""
        last = "shifted"
    return text + f"    {out} = Identity({last})\n"
