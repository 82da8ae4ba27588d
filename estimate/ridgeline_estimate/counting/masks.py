"""Pairs of a query and a key that a mask hides."""

from __future__ import annotations


def hidden_pairs(queries: int, keys: int, is_causal: bool, window: int | None) -> int:
    """How many pairs a causal mask or a window hides; the queries stand at the end of the keys.

    window: causal: how many keys a query sees, its own included; else how many on each side of its own; None = all
    """
    first = keys - queries
    if is_causal:
        later = queries * (queries - 1) // 2
        return later + (0 if window is None else _far(first, keys, window))
    if window is None:
        return 0
    return _far(first, keys, window + 1) + _far(0, queries, window + 1)


def _far(first: int, end: int, distance: int) -> int:
    """Pairs of a position in [first, end) and one from 0 up that lies `distance` or more before it."""
    # Position p has p - distance + 1 of them: the numbers from `least` to `most`, summed.
    least, most = max(first, distance) - distance + 1, end - distance
    if most < least:
        return 0
    return (most * (most + 1) - least * (least - 1)) // 2
