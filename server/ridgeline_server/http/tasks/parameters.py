"""Parameters of tasks: checked and described by what their dataclass says."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.errors import quote, shorten
from ridgeline_server.http.parsing import optional_object
from ridgeline_server.http.schemas import Schema
from ridgeline_server.tasks.parameters import Limits, limits_of

T = TypeVar("T")

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


@dataclass(frozen=True, slots=True)
class _Parameter:
    """kind: bool, int, float, str or tuple, of texts; default: MISSING where it must be given"""

    kind: type[Any]
    default: Any
    limits: Limits


# Of each parameters dataclass.
_known: dict[Any, dict[str, _Parameter]] = {}


def parse(kind: type[T], given: object, where: str = "parameters") -> T:
    """The parameters that a client gave, null and absent ones by their defaults.

    kind:  dataclass whose fields are made by `tasks.parameters.parameter`
    where: what holds them, for messages; empty = the body itself

    Raises: InvalidInputError for what is unknown, missing, of another type or outside of the limits
    """
    values = optional_object(given, where)
    known = _parameters(kind)
    prefix = f"{where}." if where else ""
    for name in values:
        if name not in known:
            raise unknown_field(name, tuple(known), prefix)
    checked = {}
    for name, parameter in known.items():
        value = values.get(name)
        if value is not None:
            checked[name] = _checked(value, parameter, prefix + name)
        elif parameter.default is MISSING:
            wanted = _wanted(parameter)
            raise InvalidInputError(f"the field `{prefix}{name}` is missing; give {wanted}", prefix + name)
    return kind(**checked)


def schema(kind: type[Any]) -> Schema:
    """The JSON Schema of what `parse` takes."""
    known = _parameters(kind)
    described: Schema = {
        "type": "object",
        "properties": {name: _describe(parameter) for name, parameter in known.items()},
        "additionalProperties": False,
    }
    required = required_names(kind)
    return {**described, "required": list(required)} if required else described


def required_names(kind: type[Any]) -> tuple[str, ...]:
    """The parameters that have no default."""
    return tuple(name for name, parameter in _parameters(kind).items() if parameter.default is MISSING)


def unknown_field(name: str, known: tuple[str, ...], prefix: str = "") -> InvalidInputError:
    """The refusal of a field that is not known; names those that are, the likeliest first."""
    near = difflib.get_close_matches(name[:60], known, n=3)
    order = [*near, *(each for each in known if each not in near)]
    allowed = f"allowed: {', '.join(order)}" if order else "none are allowed"
    return InvalidInputError(f"the field {quote(prefix + name)} is unknown; {allowed}", shorten(prefix + name, 60))


def _parameters(kind: Any) -> dict[str, _Parameter]:
    if kind not in _known:
        annotations = typing.get_type_hints(kind)
        _known[kind] = {
            field.name: _Parameter(_kind(annotations[field.name]), field.default, limits_of(field))
            for field in dataclasses.fields(kind)
        }
    return _known[kind]


def _kind(annotation: Any) -> type[Any]:
    if isinstance(annotation, types.UnionType):
        (annotation,) = (each for each in annotation.__args__ if each is not types.NoneType)
    found: type[Any] = typing.get_origin(annotation) or annotation
    assert found in _JSON_TYPES, f"a parameter cannot be of the type {annotation}"
    return found


def _checked(value: Any, parameter: _Parameter, name: str) -> Any:
    kind = parameter.kind
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and type(value) is list:
        if all(type(entry) is str for entry in value):
            value = tuple(value)
        else:
            index, misfit = next((i, entry) for i, entry in enumerate(value) if type(entry) is not str)
            raise _refuse(f"{name}[{index}]", quote(misfit), "a text", name)
    if type(value) is not kind or not _is_allowed(value, parameter.limits):
        raise _refuse(name, _picture(value, parameter), _wanted(parameter), name)
    if any("\0" in text for text in _texts(value)):
        raise InvalidInputError(f"`{name}` holds a NUL character; remove it", name)
    return value


def _is_allowed(value: Any, limits: Limits) -> bool:
    if limits.choices is not None and not set(_texts(value)) <= set(limits.choices):
        return False
    if type(value) is bool:
        return True
    size = value if isinstance(value, (int, float)) else len(value)
    return (
        (type(size) is int or math.isfinite(size))
        and (limits.least is None or size >= limits.least)
        and (limits.most is None or size <= limits.most)
    )


def _texts(value: Any) -> tuple[str, ...]:
    return value if type(value) is tuple else (value,) if type(value) is str else ()


def _refuse(what: str, given: str, wanted: str, param: str) -> InvalidInputError:
    return InvalidInputError(f"`{what}` is {given}; give {wanted}", param)


def _picture(value: Any, parameter: _Parameter) -> str:
    choices = parameter.limits.choices
    if type(value) is tuple:
        misfit = next((text for text in value if choices and text not in choices), None)
        return f"an array of {len(value)} texts" if misfit is None else f"an array with {quote(misfit)}"
    if type(value) is str and parameter.kind is str and choices is None:
        return f"a text of {len(value)} characters"
    return quote(value)


def _wanted(parameter: _Parameter) -> str:
    limits = parameter.limits
    if parameter.kind is bool:
        return "true or false"
    if parameter.kind in (int, float):
        return ("a whole number" if parameter.kind is int else "a number") + _range(limits, "from {} to {}", "{}")
    choices = " or ".join(f'"{choice}"' for choice in limits.choices or ())
    if parameter.kind is str:
        return choices or "a text" + _range(limits, "of {} to {} characters", "{} characters")
    size = _range(limits, "of {} to {} texts", "{} texts") or " of texts"
    return f"an array{size}, each {choices}" if choices else f"an array{size}"


def _range(limits: Limits, both: str, one: str) -> str:
    least, most = (None if limit is None else f"{limit:.9g}" for limit in (limits.least, limits.most))
    if least is not None and most is not None:
        return " " + both.format(least, most)
    if least is not None:
        return f" of at least {one.format(least)}"
    return "" if most is None else f" of at most {one.format(most)}"


def _describe(parameter: _Parameter) -> Schema:
    kind, limits = parameter.kind, parameter.limits
    described: Schema = {"type": _JSON_TYPES[kind], "description": limits.about}
    text: Schema = {"type": "string", "pattern": "^[^\\x00]*$"}
    if limits.choices is not None:
        text = {"enum": list(limits.choices)}
    if kind is str:
        described |= text
    elif kind is tuple:
        described["items"] = text
    for limit, keyword in zip((limits.least, limits.most), _keywords(kind), strict=True):
        if limit is not None:
            described[keyword] = limit if kind is float else int(limit)
    if parameter.default is not MISSING:
        if "enum" in described:
            described["enum"] = [*described["enum"], None]
        described["type"] = [described["type"], "null"]
        if parameter.default is not None:
            default = parameter.default
            described["default"] = list(default) if kind is tuple else default
    return described


def _keywords(kind: type[Any]) -> tuple[str, str]:
    if kind in (int, float):
        return "minimum", "maximum"
    return ("minItems", "maxItems") if kind is tuple else ("minLength", "maxLength")
