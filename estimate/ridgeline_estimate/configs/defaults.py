"""What transformers' config classes take for attributes that a config.json does not hold.

The values in defaults.json are those of transformers 5.23; the tests compare them with the installed classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any


def class_defaults(model_type: str) -> Mapping[str, Any]:
    """Default attributes of a model type's config class; for one that is not in our table, transformers is asked."""
    known = _table().get(model_type)
    return _of_installed_transformers(model_type) if known is None else known


@cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    text = files("ridgeline_estimate.configs").joinpath("defaults.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table


@cache
def _of_installed_transformers(model_type: str) -> Mapping[str, Any]:
    """Nothing where transformers is not installed, or does not know the type either."""
    try:
        from transformers import CONFIG_MAPPING

        return dict(CONFIG_MAPPING[model_type]().to_dict())
    except Exception:  # whatever a foreign config class raises, its defaults are unknown
        return {}
