"""Fields of the methods' configs: one description makes the option, the recipe's key and the check of its value."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ridgeline_export.errors import UsageError

C = TypeVar("C")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: tuple[Any, ...] = (),
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of a method's config.

    help:    what it does and why to turn it, one sentence for `--help`
    choices: the values allowed, or those that a tuple's elements may have
    least, most, above, below: the range of a number, or of a tuple's elements
    """
    metadata = {"help": help, "choices": choices, "least": least, "most": most, "above": above, "below": below}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A field as people see it.

    name:  of the field, such as "learning_rate"; its option is --learning-rate
    kind:  int, float, bool, str or Path: of the value, or of a tuple's elements
    group: name of the nested config that it belongs to, such as "training"; None for the method's own
    """

    name: str
    kind: type
    is_tuple: bool
    is_optional: bool
    is_required: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    group: str | None = None

    @property
    def option(self) -> str:
        """Its option's name on the command line."""
        return "--" + self.name.replace("_", "-")


@functools.cache
def settings_of(config_type: type, group: str | None = None) -> tuple[Setting, ...]:
    """All settings of a config, those of nested configs after its own."""
    found, nested = [], []
    hints = typing.get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        if dataclasses.is_dataclass(hints[field.name]):
            nested.append((field.name, hints[field.name]))
            continue
        kind, is_tuple, is_optional = _kind(hints[field.name])
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        default = None if is_required else field.default
        text = field.metadata.get("help", "")
        choices = tuple(map(str, field.metadata.get("choices", ())))
        found.append(Setting(field.name, kind, is_tuple, is_optional, is_required, default, text, choices, group))
    return (*found, *(each for name, inner in nested for each in settings_of(inner, name)))


def configure(config_type: type[C], values: Mapping[str, Any], *, where: str, options: bool = False) -> C:
    """A config with these values by field name, the others at their defaults; nested configs are mappings.

    where:   what the user wrote them in, for messages, such as "compress prune" or "step 2 (prune) of recipe.yaml"
    options: the values come from the command line: messages name options, and text is parsed
    Raises UsageError for an unknown, missing or wrong value.
    """
    hints = typing.get_type_hints(config_type)
    fields = {field.name: field for field in dataclasses.fields(config_type)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise UsageError(f"{where} has '{_shown(name, options)}', which it does not know; it knows: "
                             f"{', '.join(_shown(each, options) for each in fields)}")  # fmt: skip
    made: dict[str, Any] = {}
    for name, field in fields.items():
        if dataclasses.is_dataclass(hints[name]):
            inner = values.get(name) or {}
            if not isinstance(inner, Mapping):
                raise UsageError(f"{where}: '{name}' is {inner!r}; it takes settings of its own by name")
            made[name] = configure(hints[name], inner, where=where, options=options)
        elif values.get(name) is not None:
            made[name] = _checked(values[name], hints[name], field.metadata, f"{where}: {_shown(name, options)}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where} needs {_shown(name, options)}: {field.metadata.get('help', '')}")
    return config_type(**made)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as JSON-able values by name, nested ones inside."""
    raw = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        raw[field.name] = value
    return raw


def _shown(name: str, options: bool) -> str:
    return "--" + name.replace("_", "-") if options else name


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """Kind of a value, whether it is a tuple of them, whether it may be None."""
    is_optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        is_optional = len(inner) < len(typing.get_args(hint))
        hint = inner[0]
    if typing.get_origin(hint) is tuple:
        return typing.get_args(hint)[0], True, is_optional
    return hint, False, is_optional


def _checked(value: Any, hint: Any, limits: Mapping[str, Any], what: str) -> Any:
    kind, is_tuple, _ = _kind(hint)
    if is_tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        elif not isinstance(value, list | tuple):
            value = [value]
        return tuple(_single(each, kind, limits, what) for each in value)
    return _single(value, kind, limits, what)


def _single(value: Any, kind: type, limits: Mapping[str, Any], what: str) -> Any:
    given = _parsed(value, kind, what)
    choices = limits.get("choices") or ()
    if choices and given not in choices:
        raise UsageError(f"{what} is {value!r}; there are: {', '.join(map(str, choices))}")
    if isinstance(given, int | float) and not isinstance(given, bool):
        bounds = [
            (limits.get("least"), given.__ge__, "at least"),
            (limits.get("most"), given.__le__, "at most"),
            (limits.get("above"), given.__gt__, "above"),
            (limits.get("below"), given.__lt__, "below"),
        ]
        wanted = " and ".join(f"{word} {bound:g}" for bound, _, word in bounds if bound is not None)
        if not math.isfinite(given) or any(bound is not None and not holds(bound) for bound, holds, _ in bounds):
            raise UsageError(f"{what} is {value}; it must be {wanted or 'finite'}")
    return given


def _parsed(value: Any, kind: type, what: str) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "yes", "false", "no"):
            return str(value).lower() in ("true", "yes")
        raise UsageError(f"{what} is {value!r}; it must be true or false")
    if isinstance(value, bool):
        raise UsageError(f"{what} is {value!r}; it must be {_A[kind]}")
    try:
        if kind is int and isinstance(value, float):
            if value != int(value):
                raise ValueError
            return int(value)
        return kind(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{what} is {value!r}; it must be {_A[kind]}") from None


_A = {int: "a whole number", float: "a number", str: "text", Path: "a path"}
