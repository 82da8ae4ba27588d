from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ridgeline_export.errors import ModelError
from ridgeline_export.prompts import Prompts, read_prompts


def _write(directory: Path, config: Any) -> Path:
    (directory / "config_sentence_transformers.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"prompts": {"query": "query: "}}, Prompts({"query": "query: "})),
        ({"prompts": {"q": "frage: ", "d": None}, "default_prompt_name": "q"}, Prompts({"q": "frage: ", "d": ""}, "q")),
        ({"prompts": {"q": "❓ ", "d": ""}, "default_prompt_name": "d"}, Prompts({"q": "❓ ", "d": ""})),
        ({"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"}, Prompts()),
        ({"prompts": None, "default_prompt_name": None}, Prompts()),
        ({}, Prompts()),
    ],
)
def test_prompts_are_read(tmp_path: Path, config: dict[str, Any], expected: Prompts) -> None:
    assert read_prompts(_write(tmp_path, config)) == expected


def test_a_directory_without_them_has_none(tmp_path: Path) -> None:
    assert read_prompts(tmp_path) == Prompts()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([], "not a JSON object"),
        ({"prompts": ["query: "]}, "no texts by name"),
        ({"prompts": {"query": 1}}, "no texts by name"),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "passage"}, "'passage', but its prompts are: 'query'"),
        ({"default_prompt_name": "query"}, "'query', but its prompts are: none"),
    ],
)
def test_what_is_garbled_is_refused(tmp_path: Path, config: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_prompts(_write(tmp_path, config))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text("{")
    with pytest.raises(ModelError, match="config_sentence_transformers"):
        read_prompts(tmp_path)
