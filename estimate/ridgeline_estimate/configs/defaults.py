"""What transformers' config classes take for attributes that a config.json does not hold.

The values in defaults.json are those of transformers 5.23; the tests compare them with the installed classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any


def class_defaults(model_type: str, *, asks_transformers: bool = True) -> Mapping[str, Any]:
    """Default attributes of a model type's config class.

    asks_transformers: for a type that is not in our table, the installed transformers is loaded, which takes seconds
    """
    known = _table().get(model_type)
    if known is not None:
        return known
    if not asks_transformers:
        return {}
    found: Mapping[str, Any] = import_module("ridgeline_estimate.configs.libraries").transformers_defaults(model_type)
    return found


def is_known_type(model_type: str) -> bool:
    """Whether our table has the type."""
    return model_type in _table()


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    text = files("ridgeline_estimate.configs").joinpath("defaults.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table
