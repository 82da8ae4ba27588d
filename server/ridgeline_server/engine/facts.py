"""What a bundle's files say of its model beside the manifest: how its classifier decides, and its mask token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ridgeline_export.bundle import Bundle


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Facts that tasks need; see ModelInfo.

    problem: None = the config does not say
    """

    problem: str | None = None
    mask_token: str | None = None
    mask_token_id: int | None = None


def read_facts(bundle: Bundle) -> ModelFacts:
    """Facts of a bundle, from its config and tokenizer. Raises OSError, or ValueError for files that are no JSON."""
    config = _read(bundle, "config.json")
    token = _read(bundle, "tokenizer_config.json").get("mask_token")
    mask = token.get("content") if isinstance(token, dict) else token
    return ModelFacts(
        problem=config.get("problem_type"),
        mask_token=mask if isinstance(mask, str) else None,
        mask_token_id=_id_of(mask, _read(bundle, "tokenizer.json")),
    )


def _id_of(token: object, tokenizer: dict[str, Any]) -> int | None:
    added = {entry["content"]: int(entry["id"]) for entry in tokenizer.get("added_tokens", ())}
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    found = added.get(token) if token in added else vocabulary.get(token) if isinstance(vocabulary, dict) else None
    return None if found is None else int(found)


def _read(bundle: Bundle, name: str) -> dict[str, Any]:
    path = bundle.path / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object")
    return content
