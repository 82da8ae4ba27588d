"""EmbeddingLayerNorm: rows of up to three tables, added up and normalized."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from ridgeline_export.packed.bodies.norm import normalize


def words(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Whether the sum is normalized."""
    return ("normalize",) if attributes["normalize"] else ()


def body(words: AbstractSet[str]) -> str:
    """A table of types without ids gives its first row, to every token."""
    text = _gather("word", "input_ids")
    total = "word_rows"
    if "token_type" in words:
        if "token_type_ids" in words:
            text += _gather("token_type", "token_type_ids")
        else:
            text += """
    first_type = Constant<value_ints = [0]>()
    token_type_row = Gather<axis = 0>(token_type, first_type)
    token_type_rows = Cast<to = 1>(token_type_row)
"""
        text += f"    with_types = Add({total}, token_type_rows)\n"
        total = "with_types"
    if "position" in words:
        text += _gather("position", "position_ids")
        text += f"    with_positions = Add({total}, position_rows)\n"
        total = "with_positions"
    if "normalize" in words:
        text += normalize(words, total, "normalized")
        total = "normalized"
    return text + f"    out = CastLike({total}, word)\n"


def _gather(table: str, ids: str) -> str:
    return f"""
    {table}_gathered = Gather<axis = 0>({table}, {ids})
    {table}_rows = Cast<to = 1>({table}_gathered)
"""
