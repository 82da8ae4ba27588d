"""Parameters of tasks: fields of dataclasses that say what they allow: protocols parse and document them by that."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

_KEY = "parameter"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a parameter allows beside its type, which the field's annotation says.

    about:       one sentence for people
    least, most: of numbers; of lists the number of entries; of texts the number of characters
    choices:     all values, of texts; None = any
    """

    about: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] | None = None


def parameter(
    default: Any = dataclasses.MISSING,
    *,
    about: str,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A field of a parameters dataclass; without a default it must be given.

    Its annotation is one of: bool, int, float, str, tuple[str, ...], list of those | None; None stands for absent.
    """
    return dataclasses.field(default=default, metadata={_KEY: Limits(about, least, most, choices)})


def limits_of(field: dataclasses.Field[Any]) -> Limits:
    """What a field made by `parameter` allows."""
    limits: Limits = field.metadata[_KEY]
    return limits
