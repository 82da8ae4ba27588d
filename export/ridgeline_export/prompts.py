"""Prompts: texts that sentence-transformers puts before an input, by name, as a model directory declares them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ridgeline_export.errors import ModelError

_FILE = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class Prompts:
    """What goes before a model's inputs.

    texts:   by name; empty when the model has none, or only empty ones, as sentence-transformers writes them unasked.
             Beside others an empty one stays: it says that nothing goes before such inputs
    default: name of the one that is used when none is asked for; None = nothing goes before inputs then
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None


def read_prompts(directory: Path) -> Prompts:
    """Prompts of a sentence-transformers model; none of another.

    Raises ModelError when they are no texts, or when the default is none of them.
    """
    path = directory / _FILE
    if not path.is_file():
        return Prompts()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object")
    prompts, default = config.get("prompts"), config.get("default_prompt_name")
    prompts = {} if prompts is None else prompts
    if not isinstance(prompts, dict) or not all(text is None or isinstance(text, str) for text in prompts.values()):
        raise ModelError(f"{path} has prompts that are no texts by name; correct its field 'prompts'")
    if default is not None and default not in prompts:
        have = ", ".join(f"'{name}'" for name in prompts) or "none"
        raise ModelError(f"{path} names the default prompt '{default}', but its prompts are: {have}")
    texts = {name: text or "" for name, text in prompts.items()}
    if not any(texts.values()):
        return Prompts()
    return Prompts(texts, default if default is not None and texts[default] else None)
