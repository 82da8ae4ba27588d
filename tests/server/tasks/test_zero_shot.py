from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_server.errors import ExecutionError, InputTooLongError, InvalidInputError, RequestTooLargeError
from ridgeline_server.sequences import Cut
from ridgeline_server.tasks.zero_shot import TASK, LabelScores, Parameters
from tests.server.http_fakes import model_info
from tests.server.tasks.classifiers import TEXTS, answered, make_pipeline, write_classifier
from tests.server.tasks.torch_engine import TorchEngine

NLI = ("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
MODEL = model_info(task="text-classification", labels=NLI)


def prepared(texts: list[Any], *labels: str, model: Any = MODEL, **parameters: Any) -> Any:
    return TASK.prepare(model, texts, Parameters(labels, **parameters))


def test_every_label_is_a_hypothesis_about_every_text() -> None:
    work = prepared(["a", "b"], "x", "y", hypothesis_template="{{{}}} is it")
    assert work.inputs == [("a", "{x} is it"), ("a", "{y} is it"), ("b", "{x} is it"), ("b", "{y} is it")]
    assert work.reading.cut is Cut.FIRST and work.reading.side is None and work.truncate is None


def test_labels_share_one_chance_or_have_one_each() -> None:
    logits = [[0.0, 9.0, 1.0], [1.0, 9.0, 1.0], [500.0, 0.0, -500.0]]
    (shared,) = prepared(["a"], "x", "y", "z").finish(answered(logits))
    assert (shared.sequence, shared.labels) == ("a", ["y", "x", "z"]) and shared.scores == [0.5, 0.5, 0.0]
    (each,) = prepared(["a"], "z", "y", "x", multi_label=True).finish(answered(logits))
    assert each.labels == ["z", "y", "x"] and each.scores == pytest.approx([0.7310586, 0.5, 0.0])
    (single,) = prepared(["a"], "x").finish(answered(logits[:1]))
    assert single.scores == pytest.approx([0.7310586])


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ExecutionError, match="not finite"):
        prepared(["a"], "x").finish(answered([[0.0, 1.0, float("inf")]]))


@pytest.mark.parametrize(
    ("labels", "have"), [(("calm", "glad"), "'calm', 'glad'"), (None, "not named"), (("entailment",), "'entailment'")]
)
def test_a_model_without_entailment_is_refused(labels: tuple[str, ...] | None, have: str) -> None:
    with pytest.raises(InvalidInputError, match=f"classes are: {have}; ask a model trained on natural language"):
        prepared(["a"], "x", model=model_info(labels=labels))


@pytest.mark.parametrize(
    "template",
    ["no place", "{} and {}", "{", "a } b {}", "{name}", "{0.__class__}", "{:>1000000000}", "{!r}", "{{}}"],
)
def test_a_template_that_makes_no_hypothesis_is_refused(template: str) -> None:
    with pytest.raises(InvalidInputError, match=r"one \{\} where the label goes") as error:
        prepared(["a"], "x", hypothesis_template=template)
    assert error.value.param == "hypothesis_template"


def test_labels_are_not_read_as_templates() -> None:
    assert prepared(["a"], "{0} {x", hypothesis_template="is {0}.").inputs == [("a", "is {0} {x.")]


def test_empty_labels_and_token_ids_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"`candidate_labels\[1\]` is an empty text"):
        prepared(["a"], "x", " ")
    with pytest.raises(InvalidInputError, match="cannot be joined with a hypothesis; give texts"):
        prepared(["a", [1, 2]], "x")


def test_one_request_makes_only_so_many_pairs() -> None:
    with pytest.raises(RequestTooLargeError, match=r"2000 × 5\) are 10000 pairs of texts; one request"):
        prepared(["a"] * 2000, *"vwxyz")
    with pytest.raises(RequestTooLargeError, match="the 2000 hypotheses have 2004000 characters in all"):
        prepared(["a"], *(f"{index:04d}" for index in range(2000)), hypothesis_template="a" * 998 + "{}")


@pytest.mark.parametrize(
    ("name", "labels"),
    [("bert", NLI), ("roberta", ("entailment", "not_entailment")), ("distilbert", ("neutral", "Entailed", "refuted"))],
)
def test_texts_are_classified_as_by_transformers(tmp_path: Path, name: str, labels: tuple[str, ...]) -> None:
    directory = write_classifier(tmp_path, name, labels)
    engine = TorchEngine(directory, "text-classification")
    pipeline = make_pipeline("zero-shot-classification", directory)
    candidates = ("rain", "a light \U0001f4a1", "東京", "music and trains", "rain")
    for options in ({}, {"multi_label": True}, {"hypothesis_template": "{} it is"}):
        expected = pipeline(list(TEXTS), candidates, **options)
        for answer, other in zip(
            engine.ask(TASK, TEXTS, candidate_labels=candidates, **options), expected, strict=True
        ):
            assert_same(answer, other)
    (answer,) = engine.ask(TASK, TEXTS[:1], candidate_labels=("rain",))
    assert_same(answer, pipeline(TEXTS[0], ["rain"]))


def assert_same(answer: LabelScores, expected: dict[str, Any]) -> None:
    assert (answer.sequence, answer.labels) == (expected["sequence"], expected["labels"])
    assert np.abs(np.array(answer.scores) - expected["scores"]).max() < 1e-6


def test_long_texts_are_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    engine = TorchEngine(write_classifier(tmp_path, "bert", NLI), "text-classification")
    with pytest.raises(InputTooLongError):
        engine.ask(TASK, TEXTS, candidate_labels=("rain",), truncation="error")
    with pytest.raises(InvalidInputError) as caught:
        engine.ask(TASK, TEXTS[:2], candidate_labels=("rain", "rain " * 400))
    engine.works[-1].name_input(caught.value)
    assert str(caught.value).startswith("the second text of the pair of text 0 and label 1 leaves no room")
    assert str(caught.value).endswith("; shorten it")
