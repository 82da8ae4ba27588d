"""How many pairs of texts one request may make of a few texts."""

from __future__ import annotations

from ridgeline_server.errors import RequestTooLargeError

MOST_PAIRS = 8_192


def check_pairs(pairs: int, made_of: str, param: str) -> None:
    """Raise RequestTooLargeError for more pairs than one request may make.

    made_of: what they are made of, such as "3 texts with 2 labels"
    """
    if pairs > MOST_PAIRS:
        raise RequestTooLargeError(
            f"{made_of} are {pairs} pairs of texts; one request may make {MOST_PAIRS}: send several requests", param
        )
