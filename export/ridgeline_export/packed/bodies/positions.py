"""Lines that several bodies have: where tokens stand, and in which sequence."""

from __future__ import annotations

POSITIONS = """
    zero = Constant<value_int = 0>()
    one = Constant<value_int = 1>()
    rows_axis = Constant<value_ints = [1]>()
    columns_axis = Constant<value_ints = [0]>()
    bounds = Cast<to = 7>(cu_seqlens)
    tokens_scalar = Squeeze(tokens, columns_axis)
    positions = Range(zero, tokens_scalar, one)
    columns = Unsqueeze(positions, columns_axis)
"""
"""From `tokens`, int64 [1], and `cu_seqlens`: `columns`, int64 [1, tokens], positions in the batch, and `bounds`."""

SEQUENCES = """
    rows = Unsqueeze(positions, rows_axis)
    is_begun = GreaterOrEqual(rows, bounds)
    is_begun_int = Cast<to = 7>(is_begun)
    sequence_rows = ReduceSum<keepdims = 1>(is_begun_int, rows_axis)
"""
"""After POSITIONS: `rows`, positions as [tokens, 1], and `sequence_rows`, int64 [tokens, 1], the number of a token's
sequence from 1 on: how many bounds are at or before it. So empty sequences are passed over, and tokens after the last
bound have a number of their own."""

SAME_SEQUENCE = """
    sequence_columns = Transpose<perm = [1, 0]>(sequence_rows)
    same_sequence = Equal(sequence_rows, sequence_columns)
"""
"""After SEQUENCES: `same_sequence`, bool [tokens, tokens]."""

WITHIN_SEQUENCE = """
    begun_bounds = Where(is_begun, bounds, zero)
    start_rows = ReduceMax<keepdims = 1>(begun_bounds, rows_axis)
    bounds_to_come = Where(is_begun, tokens_scalar, bounds)
    end_rows = ReduceMin<keepdims = 1>(bounds_to_come, rows_axis)
    length_rows = Sub(end_rows, start_rows)
    own_rows = Sub(rows, start_rows)
"""
"""After SEQUENCES, int64 [tokens, 1] each: `start_rows` and `length_rows`, of a token's sequence, and `own_rows`, its
position there. Tokens after the last bound are a sequence of their own."""
