"""PackedAttention: every token attends to the tokens of its own sequence."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.positions import POSITIONS, SAME_SEQUENCE, SEQUENCES
from ridgeline_export.packed.bodies.scores import RESULT, SCORES, masked_softmax


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Which limits and changes of the scores there are; "causal" is a right window of 0."""
    causal = attributes["causal"] == 1
    limits = {
        "causal": causal,
        "window_left": attributes["window_left"] >= 0,
        "window_right": not causal and attributes["window_right"] >= 0,
        "softcap": attributes["softcap"] > 0,
    }
    return tuple(name for name, is_there in limits.items() if is_there)


def body(words: AbstractSet[str]) -> str:
    """Scores [kv_heads, group, tokens, tokens] of a whole batch, masked to blocks."""
    text = SCORES
    scores = "scaled"
    if "softcap" in words:
        text += """
    cap = Constant<value_float: float = @softcap>()
    of_cap = Div(scaled, cap)
    held = Tanh(of_cap)
    capped = Mul(held, cap)
"""
        scores = "capped"
    text += POSITIONS + SEQUENCES + SAME_SEQUENCE
    visible = "same_sequence"
    if words & {"relative_bias", "causal", "window_left", "window_right"}:
        text += "    distance = Sub(columns, rows)\n"
    if "relative_bias" in words:
        text += f"""
    two = Constant<value_int = 2>()
    biases = Shape<start = 1, end = 2>(relative_bias)
    biases_scalar = Squeeze(biases, columns_axis)
    reach = Div(biases_scalar, two)
    least = Neg(reach)
    held_distance = Clip(distance, least, reach)
    bias_index = Add(held_distance, reach)
    bias_float = Cast<to = 1>(relative_bias)
    bias_heads = Gather<axis = 1>(bias_float, bias_index)
    square = Concat<axis = 0>(kv_heads, group, tokens, tokens)
    bias_grouped = Reshape<allowzero = 1>(bias_heads, square)
    biased = Add({scores}, bias_grouped)
"""
        scores = "biased"
    for name, lines in _LIMITS.items():
        if name in words:
            text += lines + f"    visible_{name} = And({visible}, in_{name})\n"
            visible = f"visible_{name}"
    return text + masked_softmax(visible, scores) + RESULT


# A query sees itself under every limit, so no row of scores is masked whole.
_LIMITS = {
    "causal": "    in_causal = LessOrEqual(distance, zero)\n",
    "window_left": """
    left = Constant<value_int: int = @window_left>()
    farthest_left = Neg(left)
    in_window_left = GreaterOrEqual(distance, farthest_left)
""",
    "window_right": """
    right = Constant<value_int: int = @window_right>()
    in_window_right = LessOrEqual(distance, right)
""",
}
