"""LshAttention: to the keys that hash like a query, found by sorting both by their buckets."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES, WITHIN_SEQUENCE
from ridgeline_export.packed.bodies.scores import RESULT, SCORES, masked_softmax


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Whether it is causal."""
    return ("causal",) if attributes["causal"] == 1 else ()


def body(words: AbstractSet[str]) -> str:
    """Scores [kv_heads, group, tokens, tokens] of a whole batch; places and windows by round, before the tokens."""
    is_causal = "causal" in words
    text = SCORES + POSITIONS + SEQUENCES + SAME_SEQUENCE + WITHIN_SEQUENCE + _BUCKETS + _ORDER + _CHUNKS
    text += _LAST_QUERY if is_causal else _MIDDLE_QUERY
    text += _COUNTED
    text += "    window_begin = Sub(pivot_place, width)\n" if is_causal else _MIDDLE_KEY
    text += _WINDOWS
    return text + (_CAUSAL if is_causal else masked_softmax("visible", "scaled")) + RESULT


# A causal query may meet no key at all.
_CAUSAL = f"""
    is_past = LessOrEqual(columns, rows)
    visible_past = And(visible, is_past)
{masked_softmax("visible_past", "scaled", "softmax_weights")}
    nothing = Constant<value_float = 0.0>()
    weights = Where(visible_past, softmax_weights, nothing)
"""

# [kv_heads, group, rounds, tokens] of queries, [kv_heads, 1, rounds, tokens] of keys.
_BUCKETS = """
    start_columns = Transpose<perm = [1, 0]>(start_rows)
    length_columns = Transpose<perm = [1, 0]>(length_rows)
    two = Constant<value_int = 2>()
    second_axis = Constant<value_ints = [1]>()
    third_axis = Constant<value_ints = [2]>()
    rotations_float = Cast<to = 1>(rotations)
    rotations_of_group = Unsqueeze(rotations_float, second_axis)
    key_rows = Transpose<perm = [0, 1, 3, 2]>(keys)
    queries_of_round = Unsqueeze(queries, third_axis)
    keys_of_round = Unsqueeze(key_rows, third_axis)
    q_turned = MatMul(queries_of_round, rotations_of_group)
    k_turned = MatMul(keys_of_round, rotations_of_group)
    q_opposite = Neg(q_turned)
    k_opposite = Neg(k_turned)
    q_both = Concat<axis = -1>(q_turned, q_opposite)
    k_both = Concat<axis = -1>(k_turned, k_opposite)
    q_bucket = ArgMax<axis = -1, keepdims = 0>(q_both)
    k_bucket = ArgMax<axis = -1, keepdims = 0>(k_both)
"""

# Keys of sorting are different for every token; places count within a sequence.
_ORDER = """
    half_buckets = Shape<start = 3, end = 4>(rotations)
    buckets = Mul(half_buckets, two)
    first_bucket = Mul(sequence_columns, buckets)
    q_bucket_of_all = Add(q_bucket, first_bucket)
    k_bucket_of_all = Add(k_bucket, first_bucket)
    q_first_code = Mul(q_bucket_of_all, tokens)
    k_first_code = Mul(k_bucket_of_all, tokens)
    q_code = Add(q_first_code, columns)
    k_code = Add(k_first_code, columns)
    q_sorted, q_order = TopK<axis = -1, largest = 0, sorted = 1>(q_code, tokens)
    k_sorted, k_order = TopK<axis = -1, largest = 0, sorted = 1>(k_code, tokens)
    q_shape = Shape(q_code)
    k_shape = Shape(k_code)
    q_numbers = Expand(columns, q_shape)
    k_numbers = Expand(columns, k_shape)
    q_rank = ScatterElements<axis = 3>(q_order, q_order, q_numbers)
    k_rank = ScatterElements<axis = 3>(k_order, k_order, k_numbers)
    q_place = Sub(q_rank, start_columns)
    k_place = Sub(k_rank, start_columns)
"""

_CHUNKS = """
    chunk_value = Constant<value_int: int = @chunk>()
    key_chunks_value = Constant<value_int: int = @key_chunks>()
    width = Mul(chunk_value, key_chunks_value)
    chunk_number = Div(q_place, chunk_value)
    chunk_begin = Mul(chunk_number, chunk_value)
    left_over = Sub(length_columns, chunk_begin)
    in_chunk = Min(left_over, chunk_value)
    chunk_rank = Add(chunk_begin, start_columns)
"""

_MIDDLE_QUERY = """
    in_half = Div(in_chunk, two)
    pivot_rank = Add(chunk_rank, in_half)
    pivot = GatherElements<axis = 3>(q_sorted, pivot_rank)
    pivot_code = Mul(pivot, two)
"""
_LAST_QUERY = """
    before_last = Sub(in_chunk, one)
    pivot_rank = Add(chunk_rank, before_last)
    pivot = GatherElements<axis = 3>(q_sorted, pivot_rank)
    after_pivot = Add(pivot, one)
    pivot_code = Mul(after_pivot, two)
"""

# How many keys sort before each pivot: both are sorted together, keys having odd codes and pivots even ones.
_COUNTED = """
    k_twice = Mul(k_code, two)
    k_odd = Add(k_twice, one)
    k_odd_of_heads = Expand(k_odd, q_shape)
    merged = Concat<axis = 3>(k_odd_of_heads, pivot_code)
    twice_tokens = Mul(tokens, two)
    merged_sorted, merged_order = TopK<axis = -1, largest = 0, sorted = 1>(merged, twice_tokens)
    is_key = Less(merged_order, tokens)
    is_key_int = Cast<to = 7>(is_key)
    token_axis = Constant<value_int = 3>()
    keys_so_far = CumSum(is_key_int, token_axis)
    keys_before = ScatterElements<axis = 3>(merged_order, merged_order, keys_so_far)
    keys_before_keys, keys_before_pivots = Split<axis = 3, num_outputs = 2>(keys_before)
    pivot_place = Sub(keys_before_pivots, start_columns)
"""

_MIDDLE_KEY = """
    half_width = Div(width, two)
    window_begin = Sub(pivot_place, half_width)
"""

_WINDOWS = """
    window_inside = Max(window_begin, zero)
    room = Sub(length_columns, width)
    room_or_none = Max(room, zero)
    window_place = Min(window_inside, room_or_none)
    last_axis = Constant<value_ints = [4]>()
    query_axis = Constant<value_ints = [3]>()
    window_of_query = Unsqueeze(window_place, last_axis)
    window_end = Add(window_of_query, width)
    place_of_key = Unsqueeze(k_place, query_axis)
    is_after = GreaterOrEqual(place_of_key, window_of_query)
    is_before = Less(place_of_key, window_end)
    is_met = And(is_after, is_before)
    is_met_byte = Cast<to = 2>(is_met)
    is_met_ever = ReduceMax<keepdims = 0>(is_met_byte, third_axis)
    is_met_in_any = Cast<to = 9>(is_met_ever)
    visible = And(is_met_in_any, same_sequence)
"""
