"""Checks of the numbers that config.json gives an approximate attention."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_export.errors import ModelError


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise ModelError unless `value` is a whole number from least to most."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ModelError(
            f"the attention's {name} is {value!r}; it must be a whole number {span}: compress the model again"
        )


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ModelError unless `value` is one of the choices."""
    if value not in choices:
        raise ModelError(
            f"the attention's {name} is {value!r}; there are: {', '.join(map(str, choices))}: compress the model again"
        )
