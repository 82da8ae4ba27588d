"""How many pairs of texts one request may make of a few texts."""

from __future__ import annotations

from ridgeline_server.errors import RequestTooLargeError

MOST_PAIRS = 8_192
# A text is tokenized again in every pair that it is in: a small request can ask for any amount of work.
MOST_CHARACTERS = 16 * 1024 * 1024


def check_pairs(pairs: int, characters: int, made_of: str, param: str) -> None:
    """Raise RequestTooLargeError for more pairs, or pairs of more characters, than one request may make.

    made_of: what they are made of, such as "3 texts with 2 labels"
    """
    if pairs > MOST_PAIRS:
        raise RequestTooLargeError(
            f"{made_of} are {pairs} pairs of texts; one request may make {MOST_PAIRS}: send several requests", param
        )
    if characters > MOST_CHARACTERS:
        raise RequestTooLargeError(
            f"{made_of} are pairs of {characters} characters in all; one request may make pairs of {MOST_CHARACTERS}: "
            "shorten the texts, or send several requests",
            param,
        )
