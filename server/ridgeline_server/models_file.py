"""Settings of single models, from a models file or an admin's JSON: one set of keys, one set of messages.

[[models]]
name = "search"                 # what requests call it; without it the bundle's directory
bundle = "bundles/minilm"       # relative to the file
devices = "cpu:0,cpu:1"         # these and those below: as the flags of `ridgeline serve`, which hold without them
cores = "0-3"                   # CPUs of its own
variant = "int8"
max_queue_tokens = 65536
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ridgeline_server.config import ModelSettings, Overlong
from ridgeline_server.errors import StartupError

# No slash, no space: names are parts of paths, labels of metrics, and words in messages.
_NAME = re.compile(r"\w[\w.@+-]{0,127}")
_MOST_CORES = 4096
_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


class SettingError(ValueError):
    """A setting is wrong; the message says what is allowed. `key`: which one."""

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


def read_models_file(path: Path) -> tuple[ModelSettings, ...]:
    """The models of a TOML file, in its order.

    Raises StartupError for a file that cannot be read, and for settings that mean nothing.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the models file {path} cannot be read: {error}; name a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise StartupError(f"the models file {path} is not TOML: {error}; docs/models.md has an example") from error
    try:
        return _read(raw, path.parent)
    except SettingError as error:
        raise StartupError(f"the models file {path}: {error}") from error


def _read(raw: Mapping[str, object], folder: Path) -> tuple[ModelSettings, ...]:
    entries = raw.get("models")
    other = next((key for key in raw if key != "models"), None)
    if other is not None:
        raise SettingError(f"'{other}' means nothing here; the file holds tables [[models]] alone", other)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise SettingError("it names no model; write a table [[models]] for each, with its bundle", "models")
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            found.append(_model(entry, folder))
        except SettingError as error:
            name = entry.get("name")
            which = f"model {number}" + (f" ('{name}')" if isinstance(name, str) and name else "")
            raise SettingError(f"{which}: {error}", error.key) from None
    names = [model.name for model in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"two models are called '{twice}'; give each a name of its own", "name")
    return tuple(found)


def _model(raw: Mapping[str, object], folder: Path) -> ModelSettings:
    settings = parse_settings(raw)
    bundle = settings.pop("bundle", None)
    if bundle is None:
        raise SettingError("it has no bundle; name a directory that `ridgeline export` made", "bundle")
    path = folder / bundle
    name = settings.pop("name", None) or check_name(path.resolve().name)
    return ModelSettings(name, path, **settings)


def parse_settings(raw: Mapping[str, object]) -> dict[str, Any]:
    """Checked settings by the names of ModelSettings' fields; `bundle` is a text still. Raises SettingError."""
    found: dict[str, Any] = {}
    for key, value in raw.items():
        parse = _PARSERS.get(key)
        if parse is None:
            near = difflib.get_close_matches(key, _PARSERS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ";"
            raise SettingError(f"there is no setting '{key[:60]}'{hint} the settings are: {', '.join(_PARSERS)}", key)
        try:
            found[key] = None if value is None else parse(value)
        except ValueError as error:
            raise SettingError(f"'{key}' is {_show(value)}; {error}", key) from None
    return found


def check_name(value: object) -> str:
    """A model's name. Raises SettingError."""
    try:
        return _name(value)
    except ValueError as error:
        raise SettingError(f"the name is {_show(value)}; {error}", "name") from None


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError("give 1 to 128 letters, digits and . _ - + @, of which the first is a letter or digit")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("give a text")
    return value


def _overlong(value: object) -> Overlong:
    try:
        return Overlong(str(value))
    except ValueError:
        raise ValueError(f"give {' or '.join(Overlong)}") from None


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("give a whole number of 1 or more")
    return value


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:  # type: ignore[operator]
        raise ValueError("give seconds, 0 or more")
    return float(value)  # type: ignore[arg-type]


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError("give true or false")
    return value


def _cores(value: object) -> tuple[int, ...]:
    """From "0-3,6" or [0, 1, 2, 3, 6]."""
    numbers: list[int] = []
    if isinstance(value, str):
        for part in value.split(","):
            found = _RANGE.fullmatch(part.strip())
            run = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
            if not run:
                raise ValueError(_CORES)
            numbers += run
    elif isinstance(value, list) and all(type(number) is int and number >= 0 for number in value):
        numbers = value
    if not 0 < len(numbers) <= _MOST_CORES or len(set(numbers)) < len(numbers):
        raise ValueError(_CORES)
    return tuple(numbers)


_CORES = 'give numbers of CPUs, each once, such as "0-3,6" or [0, 1]'
_PARSERS: dict[str, Callable[[object], Any]] = {
    "name": _name,
    "bundle": _text,
    "devices": _text,
    "cores": _cores,
    "runtime": _text,
    "variant": _text,
    "overlong": _overlong,
    "max_batch_tokens": _count,
    "max_queue_tokens": _count,
    "max_request_tokens": _count,
    "max_queue_s": _seconds,
    "max_age_s": _seconds,
    "tuned": _flag,
}
SETTINGS = tuple(_PARSERS)


def _show(value: object) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:59]}…"
