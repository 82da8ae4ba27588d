"""Pool: one vector a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SEQUENCES


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The method, and whether its result is normalized."""
    return (str(attributes["method"]), *(("normalize",) if attributes["normalize"] else ()))


def body(words: AbstractSet[str]) -> str:
    """`states` is x as [tokens, dim]; an empty sequence holds no token, so its sum is zero."""
    text = f"""
    x_float = Cast<to = 1>(x)
    tokens = Shape<start = 1, end = 2>(x)
{POSITIONS}
    states = Squeeze(x_float, columns_axis)
    first_bound = Constant<value_ints = [0]>()
    second_bound = Constant<value_ints = [1]>()
    last_bound = Constant<value_ints = [-1]>()
    past_bounds = Constant<value_ints = [9223372036854775807]>()
    starts_flat = Slice(bounds, first_bound, last_bound)
    ends_flat = Slice(bounds, second_bound, past_bounds)
    starts = Unsqueeze(starts_flat, rows_axis)
    ends = Unsqueeze(ends_flat, rows_axis)
    lengths = Sub(ends, starts)
"""
    text += next(lines for method, lines in _METHODS.items() if method in words)
    pooled = "pooled"
    if "normalize" in words:
        text += """
    least_norm = Constant<value_float = 1e-12>()
    norm = ReduceL2<keepdims = 1>(pooled, rows_axis)
    divisor = Max(norm, least_norm)
    unit = Div(pooled, divisor)
"""
        pooled = "unit"
    return text + f"    out = Cast<to: int = @to>({pooled})\n"


# inside [sequences, tokens]: whether a token is a sequence's
_INSIDE = """
    from_start = GreaterOrEqual(columns, starts)
    to_end = Less(columns, ends)
    inside = And(from_start, to_end)
"""
_SUM = (
    _INSIDE
    + """
    inside_float = Cast<to = 1>(inside)
    sums = MatMul(inside_float, states)
    divisible = Max(lengths, one)
    counts = Cast<to = 1>(divisible)
"""
)
_PICK = """
    picked = And(inside, here)
    picked_float = Cast<to = 1>(picked)
    pooled = MatMul(picked_float, states)
"""
_METHODS = {
    "weighted_mean": _INSIDE
    + """
    before = Sub(columns, starts)
    place = Add(before, one)
    places = Where(inside, place, zero)
    all_places = ReduceSum<keepdims = 1>(places, rows_axis)
    divisible = Max(all_places, one)
    places_float = Cast<to = 1>(places)
    sums = MatMul(places_float, states)
    counts = Cast<to = 1>(divisible)
    pooled = Div(sums, counts)
""",
    "mean_sqrt_len": _SUM
    + """
    roots = Sqrt(counts)
    pooled = Div(sums, roots)
""",
    "mean": _SUM + "    pooled = Div(sums, counts)\n",
    "first": _INSIDE + "    here = Equal(columns, starts)\n" + _PICK,
    "last": _INSIDE
    + """
    last_tokens = Sub(ends, one)
    here = Equal(columns, last_tokens)
"""
    + _PICK,
    # Tokens after the last sequence go to a row of their own, which is cut off.
    "max": SEQUENCES
    + """
    lowest = Constant<value_float = -3.4028234663852886e38>()
    dim = Shape<start = 2, end = 3>(x)
    rows_shape = Shape(bounds)
    all_rows = Concat<axis = 0>(rows_shape, dim)
    nothing = Expand(lowest, all_rows)
    sequence_index = Sub(sequence_rows, one)
    states_shape = Shape(states)
    places = Expand(sequence_index, states_shape)
    highest = ScatterElements<axis = 0, reduction = "max">(nothing, places, states)
    sequences_highest = Slice(highest, first_bound, last_bound)
    has_tokens = Greater(lengths, zero)
    zero_float = Constant<value_float = 0.0>()
    pooled = Where(has_tokens, sequences_highest, zero_float)
""",
}
