"""Rotary: rotate pairs of a head's dims by an angle of the token's."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Which dims are pairs."""
    return ("interleaved",) if attributes["interleaved"] else ("halves",)


def body(words: AbstractSet[str]) -> str:
    """cos and sin are of the first 2 * half dims; the others pass."""
    text = """
    heads_axis = Constant<value_ints = [2]>()
    dims_axis = Constant<value_ints = [3]>()
    first = Constant<value_ints = [0]>()
    second = Constant<value_ints = [1]>()
    by_one = Constant<value_ints = [1]>()
    by_two = Constant<value_ints = [2]>()
    past_dims = Constant<value_ints = [9223372036854775807]>()
    half = Shape<start = 2, end = 3>(cos)
    turned_dims = Add(half, half)
    cos_float = Cast<to = 1>(cos)
    sin_float = Cast<to = 1>(sin)
    cos_heads = Unsqueeze(cos_float, heads_axis)
    sin_heads = Unsqueeze(sin_float, heads_axis)
"""
    return text + _rotate("q", words) + _rotate("k", words)


def _rotate(x: str, words: AbstractSet[str]) -> str:
    text = f"    {x}_float = Cast<to = 1>({x})\n"
    if "interleaved" in words:
        text += f"""
    {x}_a = Slice({x}_float, first, turned_dims, dims_axis, by_two)
    {x}_b = Slice({x}_float, second, turned_dims, dims_axis, by_two)
"""
    else:
        text += f"""
    {x}_a = Slice({x}_float, first, half, dims_axis, by_one)
    {x}_b = Slice({x}_float, half, turned_dims, dims_axis, by_one)
"""
    text += f"""
    {x}_a_cos = Mul({x}_a, cos_heads)
    {x}_b_sin = Mul({x}_b, sin_heads)
    {x}_b_cos = Mul({x}_b, cos_heads)
    {x}_a_sin = Mul({x}_a, sin_heads)
    {x}_turned_a = Sub({x}_a_cos, {x}_b_sin)
    {x}_turned_b = Add({x}_b_cos, {x}_a_sin)
    {x}_rest = Slice({x}_float, turned_dims, past_dims, dims_axis, by_one)
"""
    if "interleaved" in words:
        text += f"""
    {x}_pair_axis = Constant<value_ints = [4]>()
    {x}_column_a = Unsqueeze({x}_turned_a, {x}_pair_axis)
    {x}_column_b = Unsqueeze({x}_turned_b, {x}_pair_axis)
    {x}_pairs = Concat<axis = 4>({x}_column_a, {x}_column_b)
    {x}_outer = Shape<start = 0, end = 3>({x})
    {x}_turned_shape = Concat<axis = 0>({x}_outer, turned_dims)
    {x}_turned = Reshape<allowzero = 1>({x}_pairs, {x}_turned_shape)
    {x}_whole = Concat<axis = 3>({x}_turned, {x}_rest)
"""
    else:
        text += f"    {x}_whole = Concat<axis = 3>({x}_turned_a, {x}_turned_b, {x}_rest)\n"
    return text + f"    rotated_{x} = CastLike({x}_whole, {x})\n"
