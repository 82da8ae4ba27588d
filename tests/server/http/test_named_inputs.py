"""Errors tell of an input as the user sent it, where a task makes others of it."""

from __future__ import annotations

from typing import Any

import pytest

from ridgeline_server.errors import InputTooLongError
from ridgeline_server.request import Request
from tests.server.http_fakes import FakeEngine, Server, model_info

NLI = ("contradiction", "neutral", "entailment")


@pytest.mark.parametrize(
    ("task", "model", "body", "named"),
    [
        (
            "sentence-similarity",
            model_info(),
            {"inputs": {"source_sentence": "a", "sentences": ["b", "c", "d"]}},
            "sentence 2",
        ),
        (
            "zero-shot-classification",
            model_info(task="text-classification", labels=NLI),
            {"inputs": ["a", "b"], "parameters": {"candidate_labels": ["x", "y"]}},
            "the pair of text 1 and label 1",
        ),
        (
            "text-ranking",
            model_info(task="text-classification", labels=("score",)),
            {"inputs": {"query": "a", "texts": ["b", "c", "d", "e"]}},
            "the pair of the query and text 3",
        ),
        ("feature-extraction", model_info(), {"inputs": ["a", "b", "c", "d"]}, "input 3"),
    ],
)
def test_an_input_has_the_users_name(task: str, model: Any, body: dict[str, Any], named: str) -> None:
    async def refuse(request: Request) -> None:
        assert len(request.inputs) == 4
        raise InputTooLongError("input 3 has more than 9 tokens; shorten it", index=3)

    answer = Server(FakeEngine([model], behave=refuse)).post(f"/tasks/{task}", body)
    assert (answer.status, answer.json["error"]) == (413, f"{named} has more than 9 tokens; shorten it")
