"""LinformerAttention: to keys and values projected along the tokens of each sequence."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES, WITHIN_SEQUENCE
from ridgeline_export.packed.bodies.scores import HEADS_FIRST


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """No attribute chooses the computation."""
    return ()


def body(words: AbstractSet[str]) -> str:
    """Products of queries and keys [1, heads, tokens, tokens] of a whole batch: (q k^T) E is q (E^T k)^T.

    E and F have a row for every token, that of its position in its sequence: [heads or 1, tokens, rank].
    """
    names = {"key": "e"} | ({"value": "f"} if "value_projection" in words else {})
    projections = "".join(_rows(f"{kind}_projection", short) for kind, short in names.items())
    return f"""
{HEADS_FIRST}{POSITIONS}{SEQUENCES}{SAME_SEQUENCE}{WITHIN_SEQUENCE}
    nothing = Constant<value_float = 0.0>()
{projections}
    products = MatMul(queries, keys)
    own_products = Where(same_sequence, products, nothing)
    projected = MatMul(own_products, e_rows)
    scaled = Mul(projected, scale_value)
    weights = Softmax<axis = -1>(scaled)
    rows_turned = Transpose<perm = [0, 2, 1]>({names.get("value", "e")}_rows)
    by_token = MatMul(weights, rows_turned)
    own_by_token = Where(same_sequence, by_token, nothing)
    mixed = MatMul(own_by_token, values)
    out_float = Transpose<perm = [0, 2, 1, 3]>(mixed)
    out = CastLike(out_float, q)
"""


def _rows(projection: str, short: str) -> str:
    return f"""
    {short}_float = Cast<to = 1>({projection})
    {short}_length = Shape<start = 1, end = 2>({projection})
    {short}_last = Sub({short}_length, one)
    {short}_held = Min(own_rows, {short}_last)
    {short}_index = Squeeze({short}_held, rows_axis)
    {short}_given = Gather<axis = 1>({short}_float, {short}_index)
    {short}_reaches = Less(own_rows, {short}_length)
    {short}_rows = Where({short}_reaches, {short}_given, nothing)
"""
