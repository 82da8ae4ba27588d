from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from ridgeline_server.errors import ExecutionError, InputTooLongError, InvalidInputError
from ridgeline_server.tasks.text_classification import TASK, ClassScore, Parameters
from tests.server.http_fakes import model_info
from tests.server.tasks.classifiers import (
    LONG,
    MAX_TOKENS,
    PAIRS,
    TEXTS,
    answered,
    make_pipeline,
    write_classifier,
)
from tests.server.tasks.torch_engine import TorchEngine

LABELS = ("calm", "glad", "sad")
MODEL = model_info(task="text-classification", labels=LABELS)


def scores_of(logits: list[list[float]], model: Any = MODEL, **parameters: Any) -> list[list[ClassScore]]:
    work = TASK.prepare(model, ["a"] * len(logits), Parameters(**parameters))
    return work.finish(answered(logits))


def told(answers: list[list[ClassScore]]) -> list[list[tuple[str, float]]]:
    return [[(entry.label, pytest.approx(entry.score, abs=1e-6)) for entry in answer] for answer in answers]


def piped(answers: list[list[dict[str, Any]]]) -> list[list[tuple[str, float]]]:
    return [[(entry["label"], entry["score"]) for entry in answer] for answer in answers]


def test_plain_texts_go_the_plain_way() -> None:
    work = TASK.prepare(MODEL, ["a", [4, 5]], Parameters())
    assert list(work.inputs) == ["a", [4, 5]]
    assert (work.reading, work.readout, work.truncate, work.normalize) == (None, None, None, False)


def test_classes_are_sorted_and_ties_keep_the_models_order() -> None:
    (first, second) = scores_of([[0.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
    assert [entry.label for entry in first] == ["glad", "calm", "sad"]
    assert [entry.label for entry in second] == ["calm", "glad", "sad"]
    assert [entry.score for entry in second] == pytest.approx([1 / 3] * 3)


def test_as_many_classes_are_told_as_asked_for() -> None:
    assert [len(answer) for answer in scores_of([[0.0, 1.0, 2.0]] * 2, top_k=2)] == [2, 2]
    assert len(scores_of([[0.0, 1.0, 2.0]], top_k=9)[0]) == 3


def test_raw_scores_are_the_logits() -> None:
    expected = [[ClassScore("glad", 7.5), ClassScore("sad", 0.0), ClassScore("calm", -300.0)]]
    assert scores_of([[-300.0, 7.5, 0.0]], raw_scores=True) == expected
    assert scores_of([[-300.0, 7.5, 0.0]], function_to_apply="none", raw_scores=True) == expected
    with pytest.raises(InvalidInputError, match='`function_to_apply` is "softmax"; leave one'):
        scores_of([[1.0]], function_to_apply="softmax", raw_scores=True)


def test_a_dominant_negative_logit_is_no_nan() -> None:
    assert orjson.dumps(scores_of([[-200.0, 3.0]])) == b'[[{"label":"glad","score":1.0},{"label":"calm","score":0.0}]]'


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ExecutionError, match="not finite"):
        scores_of([[0.0, float("nan"), 1.0]])


def test_more_tokens_than_the_model_takes_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="`max_tokens` is 17; model 'tiny' takes at most 16 tokens") as error:
        TASK.prepare(MODEL, ["a"], Parameters(max_tokens=17))
    assert error.value.param == "max_tokens"


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert"])
def test_texts_and_pairs_are_classified_as_by_transformers(tiny_models: Callable[..., Path], name: str) -> None:
    directory = tiny_models(name, "text-classification")
    engine = TorchEngine(directory, "text-classification")
    pairs = [*PAIRS, ("no second text", "")]
    given = [*TEXTS, *({"text": first, "text_pair": second} for first, second in pairs)]
    expected = make_pipeline("text-classification", directory)(given, top_k=None, truncation=True)
    answers = engine.ask(TASK, [*TEXTS, *pairs])
    assert told(answers) == piped(expected)
    assert len({entry[0].score for entry in answers}) > 6, "the model answers the same to everything"


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (LABELS, "multi_label_classification"),
        (LABELS, "regression"),
        (("LABEL_0",), "regression"),
        (("LABEL_0",), None),
        (("calm", "calm"), None),
    ],
)
def test_scores_are_what_the_config_asks_for(tmp_path: Path, labels: tuple[str, ...], problem: str | None) -> None:
    directory = write_classifier(tmp_path, "bert", labels, problem_type=problem)
    engine = TorchEngine(directory, "text-classification")
    pipeline = make_pipeline("text-classification", directory)
    texts = list(TEXTS[:4])
    assert told(engine.ask(TASK, texts)) == piped(pipeline(texts, top_k=None))
    assert told(engine.ask(TASK, texts, top_k=1)) == piped(pipeline(texts, top_k=1))
    for function in ("softmax", "sigmoid", "none"):
        expected = pipeline(texts, top_k=2, function_to_apply=function)
        assert told(engine.ask(TASK, texts, top_k=2, function_to_apply=function)) == piped(expected)


def test_long_texts_are_cut_where_it_is_asked_for(tiny_models: Callable[..., Path]) -> None:
    directory = tiny_models("bert", "text-classification")
    engine = TorchEngine(directory, "text-classification", max_tokens=MAX_TOKENS)
    text = "rain and music " + LONG + "seven green trains"
    answers = {}
    for side in ("right", "left"):
        pipeline = make_pipeline("text-classification", directory)
        pipeline.tokenizer.truncation_side = side
        for most in (MAX_TOKENS, 20):
            expected = pipeline([text], top_k=None, truncation=True, max_length=most)
            answers[side, most] = told(engine.ask(TASK, [text], truncation=side, max_tokens=most))
            assert answers[side, most] == piped(expected)
    with pytest.raises(InputTooLongError):
        engine.ask(TASK, [text], truncation="error")
    with pytest.raises(InputTooLongError):
        engine.ask(TASK, ["the server reads a batch of tokens"], truncation="error", max_tokens=4)
