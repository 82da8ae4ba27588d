"""LocalGlobalAttention: to a window around each token and to each sequence's first tokens."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES, WITHIN_SEQUENCE
from ridgeline_export.packed.bodies.scores import RESULT, SCORES, masked_softmax


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Whether there are global tokens."""
    return ("global_tokens",) if attributes["global_tokens"] > 0 else ()


def body(words: AbstractSet[str]) -> str:
    """Scores [kv_heads, group, tokens, tokens] of a whole batch, masked."""
    text = (
        SCORES
        + POSITIONS
        + SEQUENCES
        + SAME_SEQUENCE
        + """
    distance = Sub(columns, rows)
    how_far = Abs(distance)
    window_value = Constant<value_int: int = @window>()
    is_near = LessOrEqual(how_far, window_value)
"""
    )
    seen = "is_near"
    if "global_tokens" in words:
        text += (
            WITHIN_SEQUENCE
            + """
    first_tokens = Constant<value_int: int = @global_tokens>()
    is_global_row = Less(own_rows, first_tokens)
    is_global_column = Transpose<perm = [1, 0]>(is_global_row)
    is_global = Or(is_global_row, is_global_column)
    is_near_or_global = Or(is_near, is_global)
"""
        )
        seen = "is_near_or_global"
    return text + f"    visible = And(same_sequence, {seen})\n" + masked_softmax("visible", "scaled") + RESULT
