"""NystromAttention: through the means of segments of each sequence, and a pseudo-inverse between them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES, WITHIN_SEQUENCE
from ridgeline_export.packed.bodies.scores import HEADS_FIRST

_ITERATIONS = "iterations_"


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """How often the pseudo-inverse is iterated: the steps are written out."""
    return (f"{_ITERATIONS}{attributes['iterations']}",)


def body(words: AbstractSet[str]) -> str:
    """Exact attention of a whole batch for short sequences; landmarks are those of the others alone.

    Among so many tokens there are at most tokens / (landmarks + 1) sequences longer than the landmarks. As many places
    for landmarks are made, sequence by sequence; those that no sequence needs hold zeros, which nobody reads.
    """
    count = next(int(word.removeprefix(_ITERATIONS)) for word in words if word.startswith(_ITERATIONS))
    text = HEADS_FIRST + POSITIONS + SEQUENCES + SAME_SEQUENCE + WITHIN_SEQUENCE + _EXACT + _PLACES + _MEANS + _INVERSE
    for step in range(count):
        text += _step(step)
    text += _THROUGH_LANDMARKS.format(inverse=f"z{count}")
    result = "attended"
    if "conv_kernel" in words:
        text += _CONVOLUTION
        result = "with_convolution"
    return (
        text
        + f"""
    out_float = Transpose<perm = [0, 2, 1, 3]>({result})
    out = CastLike(out_float, q)
"""
    )


_EXACT = """
    lowest = Constant<value_float = -3.4028234663852886e38>()
    products = MatMul(queries, keys)
    scaled = Mul(products, scale_value)
    masked = Where(same_sequence, scaled, lowest)
    weights = Softmax<axis = -1>(masked)
    exact = MatMul(weights, values)
"""

# A long sequence's tokens: the number of their sequence among long ones, and of their segment in it. Token p of n is in
# the last segment i with floor(i n / landmarks) <= p.
_PLACES = """
    landmarks = Constant<value_int: int = @landmarks>()
    minus_one = Constant<value_int = -1>()
    is_long = Greater(length_rows, landmarks)
    is_first = Equal(own_rows, zero)
    begins_long = And(is_long, is_first)
    begins_long_int = Cast<to = 7>(begins_long)
    long_begun = CumSum(begins_long_int, zero)
    long_number = Sub(long_begun, one)
    long_rows = Where(is_long, long_number, minus_one)
    after = Add(own_rows, one)
    after_times = Mul(after, landmarks)
    at_last = Sub(after_times, one)
    segment = Div(at_last, length_rows)
    first_place = Mul(long_rows, landmarks)
    place = Add(first_place, segment)
    place_rows = Where(is_long, place, minus_one)
    place_columns = Transpose<perm = [1, 0]>(place_rows)
    one_more = Add(landmarks, one)
    most_long = Div(tokens, one_more)
    groups = Add(most_long, one)
    groups_scalar = Squeeze(groups, columns_axis)
    places = Mul(groups_scalar, landmarks)
    place_numbers = Range(zero, places, one)
    number_rows = Unsqueeze(place_numbers, rows_axis)
    place_groups = Div(place_numbers, landmarks)
    group_columns = Unsqueeze(place_groups, columns_axis)
    own_landmarks = Equal(long_rows, group_columns)
    own_tokens = Transpose<perm = [1, 0]>(own_landmarks)
"""

_MEANS = """
    is_member = Equal(number_rows, place_columns)
    member = Cast<to = 1>(is_member)
    members = ReduceSum<keepdims = 1>(member, rows_axis)
    one_float = Constant<value_float = 1.0>()
    divisor = Max(members, one_float)
    averaging = Div(member, divisor)
    key_rows = Transpose<perm = [0, 1, 3, 2]>(keys)
    q_means = MatMul(averaging, queries)
    k_means = MatMul(averaging, key_rows)
    heads = Shape<start = 2, end = 3>(q)
    head_dim = Shape<start = 3, end = 4>(q)
    landmarks_axis = Unsqueeze(landmarks, columns_axis)
    by_group = Concat<axis = 0>(heads, groups, landmarks_axis, head_dim)
    q_grouped = Reshape<allowzero = 1>(q_means, by_group)
    k_grouped = Reshape<allowzero = 1>(k_means, by_group)
    k_grouped_turned = Transpose<perm = [0, 1, 3, 2]>(k_grouped)
"""

_INVERSE = """
    middle_products = MatMul(q_grouped, k_grouped_turned)
    middle_scores = Mul(middle_products, scale_value)
    a = Softmax<axis = -1>(middle_scores)
    a_rows_axis = Constant<value_ints = [2]>()
    a_columns_axis = Constant<value_ints = [3]>()
    column_sums = ReduceSum<keepdims = 1>(a, a_rows_axis)
    largest_sum = ReduceMax<keepdims = 1>(column_sums, a_columns_axis)
    a_turned = Transpose<perm = [0, 1, 3, 2]>(a)
    z0 = Div(a_turned, largest_sum)
    line = Range(zero, landmarks, one)
    line_rows = Unsqueeze(line, rows_axis)
    is_diagonal = Equal(line_rows, line)
    identity = Cast<to = 1>(is_diagonal)
    quarter = Constant<value_float = 0.25>()
    seven = Constant<value_float = 7.0>()
    fifteen = Constant<value_float = 15.0>()
    thirteen = Constant<value_float = 13.0>()
    seven_identity = Mul(identity, seven)
    fifteen_identity = Mul(identity, fifteen)
    thirteen_identity = Mul(identity, thirteen)
"""


def _step(step: int) -> str:
    return f"""
    p{step} = MatMul(a, z{step})
    less_seven{step} = Sub(seven_identity, p{step})
    by_seven{step} = MatMul(p{step}, less_seven{step})
    less_fifteen{step} = Sub(fifteen_identity, by_seven{step})
    by_fifteen{step} = MatMul(p{step}, less_fifteen{step})
    less_thirteen{step} = Sub(thirteen_identity, by_fifteen{step})
    quarter_z{step} = Mul(z{step}, quarter)
    z{step + 1} = MatMul(quarter_z{step}, less_thirteen{step})
"""


_THROUGH_LANDMARKS = """
    gathered_products = MatMul(q_means, keys)
    gathered_scores = Mul(gathered_products, scale_value)
    gathered_masked = Where(own_tokens, gathered_scores, lowest)
    gathered_weights = Softmax<axis = -1>(gathered_masked)
    summaries = MatMul(gathered_weights, values)
    summaries_grouped = Reshape<allowzero = 1>(summaries, by_group)
    landmark_values = MatMul({inverse}, summaries_grouped)
    flat_axis = Constant<value_ints = [-1]>()
    one_batch = Constant<value_ints = [1]>()
    flat = Concat<axis = 0>(one_batch, heads, flat_axis, head_dim)
    landmark_values_flat = Reshape(landmark_values, flat)
    k_means_turned = Transpose<perm = [0, 1, 3, 2]>(k_means)
    spread_products = MatMul(queries, k_means_turned)
    spread_scores = Mul(spread_products, scale_value)
    spread_masked = Where(own_landmarks, spread_scores, lowest)
    spread_weights = Softmax<axis = -1>(spread_masked)
    through_landmarks = MatMul(spread_weights, landmark_values_flat)
    attended = Where(is_long, through_landmarks, exact)
"""

# A band of the filter's taps, [heads, tokens, tokens].
_CONVOLUTION = """
    two = Constant<value_int = 2>()
    width = Shape<start = 1, end = 2>(conv_kernel)
    half_width = Div(width, two)
    last_tap = Sub(width, one)
    last_tap_scalar = Squeeze(last_tap, columns_axis)
    distance = Sub(columns, rows)
    tap = Add(distance, half_width)
    held_tap = Clip(tap, zero, last_tap_scalar)
    conv_float = Cast<to = 1>(conv_kernel)
    taps = Gather<axis = 1>(conv_float, held_tap)
    is_tap = Equal(tap, held_tap)
    is_own_tap = And(is_tap, same_sequence)
    nothing = Constant<value_float = 0.0>()
    band = Where(is_own_tap, taps, nothing)
    convolution = MatMul(band, values)
    with_convolution = Add(attended, convolution)
"""
