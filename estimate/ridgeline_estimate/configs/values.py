"""Values of a config by the names of names.py, with the defaults that transformers' classes give them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ridgeline_estimate.configs.defaults import class_defaults, is_known_type
from ridgeline_estimate.configs.names import NAMES, NORMALIZED_NAMES
from ridgeline_estimate.errors import ShapeError

# Each layer is looked at: a config of a billion would take for ever.
MOST_LAYERS = 10_000
_LAYER_NAMES = (*NAMES["layers"], "num_decoder_layers", "decoder_layers", "inner_group_num")


class Values:
    """Typed look-ups in a config.json. A key of NAMES stands for all its names; any other name for itself.

    What the config does not hold comes from the defaults of its model type's class; a null in the config stays null.
    """

    def __init__(self, config: Mapping[str, Any], *, is_complete: bool = False) -> None:
        """is_complete: it holds all attributes, so that no library need be asked for those of an unknown type"""
        # DBRX keeps some of its attributes one level down.
        nested = [config[name] for name in ("attn_config", "ffn_config") if isinstance(config.get(name), Mapping)]
        self.config = {key: value for part in (*nested, config) for key, value in part.items()}
        self.model_type = str(config.get("model_type") or "unknown")
        self._is_complete = is_complete

    def with_values(self, values: Mapping[str, Any]) -> Values:
        """The same config with some values set."""
        return Values({**self.config, **values}, is_complete=self._is_complete)

    def find(self, *fields: str) -> Any:
        """The first field's value, else the next one's; None when there is none."""
        return next((value for field in fields if (value := self._find(field)) is not None), None)

    def integer(self, *fields: str, default: int | None = None, least: int = 1) -> int:
        """A whole number. Raises ShapeError when it is none, or absent and without a default."""
        value = self.find(*fields)
        if value is None:
            value = self._normalized(fields[0])
        if value is None:
            if default is None:
                names = ", ".join(name for field in fields for name in NAMES.get(field, (field,)))
                raise ShapeError(f"the config does not say its {fields[0]}; looked for {names}")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ShapeError(f"the config's {fields[0]} is {value!r}; it should be a whole number")
        if value < least:
            raise ShapeError(f"the config's {fields[0]} is {value!r}; it should be a whole number from {least} up")
        return value

    def check_layers(self) -> None:
        """Raises ShapeError for more layers than any model has."""
        for name in _LAYER_NAMES:
            value = self.find(name)
            if isinstance(value, (int, float)) and value > MOST_LAYERS:
                raise ShapeError(f"the config's {name} is {value}; models of up to {MOST_LAYERS} layers can be counted")

    def number(self, field: str, default: float) -> float:
        """A number. Raises ShapeError when it is none."""
        value = self.find(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ShapeError(f"the config's {field} is {value!r}; it should be a number")
        return float(value)

    def flag(self, field: str, default: bool = False) -> bool:
        """True or false. Raises ShapeError when it is neither."""
        value = self.find(field)
        if value is None:
            return default
        if not isinstance(value, (bool, int)):
            raise ShapeError(f"the config's {field} is {value!r}; it should be true or false")
        return bool(value)

    def text(self, field: str, default: str = "") -> str:
        """A word, such as the name of an activation."""
        value = self.find(field)
        return default if value is None else str(value)

    def names(self, field: str) -> tuple[str, ...] | None:
        """A list of words; None when there is none. Raises ShapeError when it is something else."""
        value = self.find(field)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(entry, str) for entry in value):
            raise ShapeError(f"the config's {field} is {value!r}; it should be a list of words")
        return tuple(value)

    def _find(self, field: str) -> Any:
        names = NAMES.get(field, (field,))
        for name in names:
            if self.config.get(name) is not None:
                return self.config[name]
        if any(name in self.config for name in names):
            return None
        defaults = class_defaults(self.model_type, asks_transformers=not self._is_complete)
        return next((defaults[name] for name in names if defaults.get(name) is not None), None)

    def _normalized(self, field: str) -> Any:
        """What optimum's registry of normalized configs calls by a name that is not in NAMES."""
        theirs = NORMALIZED_NAMES.get(field)
        if theirs is None or self._is_complete or is_known_type(self.model_type):
            return None
        libraries = import_module("ridgeline_estimate.configs.libraries")
        return libraries.normalized(self.model_type, self.config, theirs)
