"""Parameters on inputs that are too long, which tasks share."""

from __future__ import annotations

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Cut, Reading, Side

ERROR = "error"
TRUNCATIONS = (ERROR, *(side.value for side in Side))
ABOUT_TRUNCATION = (
    "What happens to an input that is too long: it is refused, or cut at its right or left end. Without it, what the "
    "server was started with."
)
ABOUT_MAX_TOKENS = "Longest input, in tokens, special tokens included; up to the model's maximum, which is the default."


def read_truncation(
    model: ModelInfo, truncation: str | None, max_tokens: int | None = None, cut: Cut = Cut.LONGEST
) -> tuple[bool | None, Reading | None]:
    """`truncate` and `reading` of a Work, by the values of these parameters. None = a plain request's way will do.

    Raises InvalidInputError when `max_tokens` is over the model's maximum.
    """
    if max_tokens is not None and max_tokens > model.max_tokens:
        raise InvalidInputError(
            f"`max_tokens` is {max_tokens}; model '{model.name}' takes at most {model.max_tokens} tokens: give that, "
            "or less",
            "max_tokens",
        )
    side = Side(truncation) if truncation in tuple(Side) else None
    is_plain = side is None and max_tokens is None and cut is Cut.LONGEST
    reading = None if is_plain else Reading(side=side, max_tokens=max_tokens, cut=cut)
    return None if truncation is None else truncation != ERROR, reading
