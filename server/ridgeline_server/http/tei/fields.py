"""Fields that several routes of text-embeddings-inference share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.errors import quote
from ridgeline_server.http.parsing import array_of_texts, checked_texts, optional_bool, optional_choice
from ridgeline_server.sequences import Reading, Side

_DIRECTIONS = ("right", "Right", "left", "Left")


@dataclass(frozen=True, slots=True)
class Truncation:
    """What shall happen to inputs that are too long.

    truncate: None = the server's default
    side:     None = not said
    """

    truncate: bool | None
    side: Side | None

    @property
    def reading(self) -> Reading | None:
        """How inputs are read, None = a plain request's way will do."""
        return None if self.side is None else Reading(side=self.side)


_NOT_SAID = Truncation(None, None)


def read_truncation(fields: dict[str, Any]) -> Truncation:
    """`truncate` and `truncation_direction`. Raises: InvalidInputError"""
    truncate = optional_bool(fields, "truncate")
    direction = optional_choice(fields, "truncation_direction", _DIRECTIONS)
    if truncate is None and direction is None:
        return _NOT_SAID
    return Truncation(truncate, None if direction is None else Side(direction.lower()))


def read_prompt_name(fields: dict[str, Any]) -> str | None:
    """`prompt_name`. Raises: InvalidInputError unless it is a text, null or absent."""
    name = fields.get("prompt_name")
    if name is None or type(name) is str:
        return name
    raise InvalidInputError(f"`prompt_name` is {quote(name)}; give a text, or leave it out", "prompt_name")


def required(fields: dict[str, Any], name: str, wanted: str, prefix: str = "") -> Any:
    """A field's value. Raises: InvalidInputError when it is missing."""
    if name not in fields:
        raise InvalidInputError(f"the field `{prefix}{name}` is missing; give {wanted}", prefix + name)
    return fields[name]


def read_text(fields: dict[str, Any], name: str, has_nul: bool, prefix: str = "") -> str:
    """A text that must be there. Raises: InvalidInputError"""
    value = required(fields, name, "a text", prefix)
    if type(value) is not str:
        raise InvalidInputError(f"`{prefix}{name}` is {quote(value)}; give a text", prefix + name)
    return checked_texts([value], prefix + name, has_nul)[0]


def read_texts(fields: dict[str, Any], name: str, most: int, has_nul: bool, prefix: str = "") -> list[str]:
    """An array of texts that must be there. Raises: InvalidInputError"""
    value = required(fields, name, "an array of texts", prefix)
    return array_of_texts(value, prefix + name, most, has_nul)
