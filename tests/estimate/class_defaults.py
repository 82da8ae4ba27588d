"""What transformers' config classes take for attributes that a config.json does not hold.

`python -m tests.estimate.class_defaults` writes them anew, after a change of transformers' version.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import transformers

from ridgeline_estimate import configs
from ridgeline_estimate.configs.known import KNOWN_TYPES

PATH = Path(configs.__file__).parent / "defaults.json"
_NO_COST = ("token_id", "token_index", "dropout", "drop", "initializer", "_eps", "epsilon", "_coef", "loss", "summary")
_BASE = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}


def class_defaults(model_type: str) -> dict[str, Any]:
    """Attributes that may decide a cost, as the class has them before it derives some from others."""
    if model_type not in transformers.CONFIG_MAPPING:  # its code is not transformers' own
        return {}
    fields = dataclasses.fields(transformers.CONFIG_MAPPING[model_type])
    found = {}
    for field in fields:
        value = field.default_factory() if callable(field.default_factory) else field.default
        is_plain = value is None or isinstance(value, (bool, int, float, str, list, tuple))
        if field.name in _BASE or not is_plain or any(part in field.name for part in _NO_COST):
            continue
        found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def main() -> None:
    table = {name: class_defaults(name) for name in sorted(KNOWN_TYPES)}
    PATH.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
