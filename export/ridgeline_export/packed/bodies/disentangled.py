"""DisentangledAttention: DeBERTa-v2's, with scores by content and by relative position."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """No attribute chooses the computation."""
    return ()


def body(words: AbstractSet[str]) -> str:
    """Scores [1, heads, tokens, tokens] of a whole batch, masked to blocks."""
    text = f"""
    q_float = Cast<to = 1>(q)
    k_float = Cast<to = 1>(k)
    v_float = Cast<to = 1>(v)
    tokens = Shape<start = 1, end = 2>(q)
    queries = Transpose<perm = [0, 2, 1, 3]>(q_float)
    keys = Transpose<perm = [0, 2, 3, 1]>(k_float)
    values = Transpose<perm = [0, 2, 1, 3]>(v_float)
    content = MatMul(queries, keys)
{POSITIONS}{SEQUENCES}{SAME_SEQUENCE}
"""
    scores = "content"
    if words & {"content_to_position", "position_to_content"}:
        text += """
    two = Constant<value_int = 2>()
    distances = Shape(buckets)
    distances_scalar = Squeeze(distances, columns_axis)
    reach = Div(distances_scalar, two)
    least = Neg(reach)
    distance = Sub(rows, columns)
    held_distance = Clip(distance, least, reach)
    distance_index = Add(held_distance, reach)
    column = Gather<axis = 0>(buckets, distance_index)
    heads = Shape<start = 2, end = 3>(q)
    one_batch = Constant<value_ints = [1]>()
    square = Concat<axis = 0>(one_batch, heads, tokens, tokens)
"""
    if "content_to_position" in words:
        text += f"""
    c2p_float = Cast<to = 1>(content_to_position)
    c2p_heads = Transpose<perm = [0, 2, 1, 3]>(c2p_float)
    c2p_columns = Expand(column, square)
    by_query = GatherElements<axis = 3>(c2p_heads, c2p_columns)
    with_c2p = Add({scores}, by_query)
"""
        scores = "with_c2p"
    if "position_to_content" in words:
        text += f"""
    p2c_float = Cast<to = 1>(position_to_content)
    p2c_heads = Transpose<perm = [0, 2, 1, 3]>(p2c_float)
    column_of_key = Transpose<perm = [1, 0]>(column)
    p2c_columns = Expand(column_of_key, square)
    by_key = GatherElements<axis = 3>(p2c_heads, p2c_columns)
    by_key_turned = Transpose<perm = [0, 1, 3, 2]>(by_key)
    with_p2c = Add({scores}, by_key_turned)
"""
        scores = "with_p2c"
    return (
        text
        + f"""
    scale_value = Constant<value_float: float = @scale>()
    scaled = Mul({scores}, scale_value)
    lowest = Constant<value_float = -3.4028234663852886e38>()
    masked = Where(same_sequence, scaled, lowest)
    weights = Softmax<axis = -1>(masked)
    mixed = MatMul(weights, values)
    out_float = Transpose<perm = [0, 2, 1, 3]>(mixed)
    out = CastLike(out_float, q)
"""
    )
