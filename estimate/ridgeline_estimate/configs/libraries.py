"""What transformers and optimum know of model types that are not in our tables, where they are installed.

Loaded by name, and only for a config that may leave attributes out: serving never loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any


@cache
def transformers_defaults(model_type: str) -> Mapping[str, Any]:
    """Attributes of the type's config class; nothing where transformers is absent, or does not know it either."""
    try:
        from transformers import CONFIG_MAPPING

        return dict(CONFIG_MAPPING[model_type]().to_dict())
    except Exception:  # whatever a foreign config class raises, its defaults are unknown
        return {}


def normalized(model_type: str, config: Mapping[str, Any], name: str) -> Any:
    """The value that optimum's registry of normalized configs finds under a name of its own; None where it does not."""
    try:
        from optimum.utils.normalized_config import NormalizedConfigManager

        normalizer = NormalizedConfigManager.get_normalized_config_class(model_type)
        return getattr(normalizer(SimpleNamespace(**config)), name)
    except (ImportError, KeyError, AttributeError):
        return None
