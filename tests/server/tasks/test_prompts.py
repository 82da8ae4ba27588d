from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.engine.loading import load_models
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.sequences import Input
from ridgeline_server.tasks.prompts import find_prompt, with_prompt
from tests.server.http_fakes import model_info

PROMPTED = model_info(prompts={"query": "❓ query: ", "document": ""}, default_prompt="query")
PLAIN = model_info()


@pytest.mark.parametrize(
    ("name", "prompt", "expected"),
    [
        (None, None, "❓ query: "),
        ("query", None, "❓ query: "),
        ("document", None, ""),
        (None, "x: ", "x: "),
        (None, "", ""),
    ],
)
def test_the_prompt_asked_for_goes_before_the_default_one(name: str | None, prompt: str | None, expected: str) -> None:
    assert find_prompt(PROMPTED, name, prompt) == expected


def test_a_model_without_a_default_prompt_reads_its_inputs_as_they_are() -> None:
    inputs: list[Input] = ["a", [1, 2]]
    assert with_prompt(PLAIN, inputs) is inputs
    assert with_prompt(PLAIN, ["a", "b"], prompt="x: ") == ["x: a", "x: b"]


def test_both_ways_to_ask_are_refused_together() -> None:
    with pytest.raises(InvalidInputError, match="both given"):
        find_prompt(PROMPTED, "query", "x")


@pytest.mark.parametrize(("model", "said"), [(PROMPTED, "has 'query', 'document'"), (PLAIN, "has no prompts")])
def test_an_unknown_prompt_is_refused_with_those_that_there_are(model: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        find_prompt(model, "passage")  # type: ignore[arg-type]
    assert caught.value.param == "prompt_name"


def test_a_served_model_has_the_prompts_of_its_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = json.loads((bundle / "ridgeline.json").read_text()) | {"prompts": {"q": "? "}, "default_prompt": "q"}
    (bundle / "ridgeline.json").write_text(json.dumps(manifest))
    (model,) = load_models(ServerConfig((bundle,)), lambda batch: None)
    model.tokenizer.stop()
    assert find_prompt(model.info()) == "? "


def test_token_ids_get_no_prompt() -> None:
    assert with_prompt(PROMPTED, ["a", [1, 2]]) == ["❓ query: a", [1, 2]]
    with pytest.raises(InvalidInputError, match="`prompt_name` goes before texts"):
        with_prompt(PROMPTED, ["a", [1, 2]], "query")
    with pytest.raises(InvalidInputError, match="`prompt` goes before texts"):
        with_prompt(PROMPTED, [[1, 2]], prompt="x")
    assert with_prompt(PROMPTED, [[1, 2]], "document") == [[1, 2]]
