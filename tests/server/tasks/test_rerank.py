from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_server.errors import ExecutionError, InputTooLongError, InvalidInputError, RequestTooLargeError
from ridgeline_server.tasks.inputs import Query
from ridgeline_server.tasks.rerank import TASK, Parameters, Ranked
from tests.server.http_fakes import model_info
from tests.server.tasks.classifiers import LONG, MAX_TOKENS, TEXTS, answered, write_classifier
from tests.server.tasks.torch_engine import TorchEngine

MODEL = model_info(task="text-classification", labels=("LABEL_0",))
QUERY = Query("what is rain?", ("a", "b", "c", "d"))
LOGITS = [[0.0], [25.0], [-1.0], [30.0]]


def ranked(logits: list[list[float]] = LOGITS, **parameters: Any) -> list[Ranked]:
    (answer,) = TASK.prepare(MODEL, QUERY, Parameters(**parameters)).finish(answered(logits))
    return list(answer)


def test_every_text_is_read_with_the_query() -> None:
    work = TASK.prepare(MODEL, QUERY, Parameters())
    assert work.inputs == [("what is rain?", text) for text in "abcd"]
    assert (work.reading, work.readout, work.truncate, work.normalize) == (None, None, None, False)


def test_texts_come_by_score_and_then_by_logit() -> None:
    assert [(entry.index, entry.text) for entry in ranked()] == [(3, None), (1, None), (0, None), (2, None)]
    assert [entry.score for entry in ranked()] == pytest.approx([1.0, 1.0, 0.5, 0.2689414])
    assert [entry.index for entry in ranked([[1.0]] * 4)] == [0, 1, 2, 3]


def test_raw_scores_texts_and_their_number_are_as_asked_for() -> None:
    assert ranked(raw_scores=True, return_text=True, top_n=2) == [Ranked(3, 30.0, "d"), Ranked(1, 25.0, "b")]
    assert len(ranked(top_n=9)) == 4


def test_a_model_of_several_classes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'tiny' scores 2 classes, and ranking takes a model that gives one"):
        TASK.prepare(model_info(labels=("no", "yes")), QUERY, Parameters())
    work = TASK.prepare(model_info(labels=None), QUERY, Parameters())
    with pytest.raises(InvalidInputError, match="'tiny' scores 3 classes"):
        work.finish(answered([[0.0, 1.0, 2.0]] * 4))


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(ExecutionError, match="not finite"):
        ranked([[0.0], [float("-inf")], [1.0], [2.0]])


def test_one_request_makes_only_so_many_pairs() -> None:
    with pytest.raises(RequestTooLargeError, match="the query and its texts are 9000 pairs of texts; one request"):
        TASK.prepare(MODEL, Query("a", ("b",) * 9000), Parameters())


def test_errors_name_the_text() -> None:
    error = InputTooLongError("input 12 has 9 tokens", index=12)
    TASK.prepare(MODEL, QUERY, Parameters()).name_input(error)
    assert str(error) == "the pair of the query and text 12 has 9 tokens"


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "deberta-v2", "modernbert"])
def test_texts_are_ranked_as_by_sentence_transformers(tmp_path: Path, name: str) -> None:
    from sentence_transformers import CrossEncoder

    directory = write_classifier(tmp_path, name, ("LABEL_0",))
    engine = TorchEngine(directory, "text-classification", max_tokens=MAX_TOKENS)
    encoder = CrossEncoder(str(directory), max_length=MAX_TOKENS, device="cpu")
    texts = (*TEXTS, "", "\U0001f600", LONG[9:])
    for query in ("the server reads rain", LONG):
        expected = encoder.rank(query, list(texts), return_documents=True)
        (answer,) = engine.ask(TASK, Query(query, texts), return_text=True)
        assert_same(answer, expected)
    (raw,) = engine.ask(TASK, Query("rain", texts), raw_scores=True, top_n=4)
    logits = encoder.predict([("rain", text) for text in texts], activation_fn=lambda scores: scores)
    assert [entry.score for entry in raw] == pytest.approx(sorted(logits, reverse=True)[:4], abs=1e-5)


def assert_same(answer: list[Ranked], expected: list[dict[str, Any]]) -> None:
    scores = np.array([entry.score for entry in answer])
    assert np.abs(scores - [entry["score"] for entry in expected]).max() < 1e-5
    assert sorted((entry.index, entry.text) for entry in answer) == sorted(
        (int(entry["corpus_id"]), entry["text"]) for entry in expected
    )
    by_index = {entry["corpus_id"]: entry["score"] for entry in expected}
    assert [by_index[entry.index] for entry in answer] == pytest.approx(list(scores), abs=1e-5)


def test_long_texts_are_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    engine = TorchEngine(write_classifier(tmp_path, "bert", ("LABEL_0",)), "text-classification")
    with pytest.raises(InputTooLongError):
        engine.ask(TASK, Query("rain", (LONG,)), truncation="error")
    (answer,) = engine.ask(TASK, Query("rain", (LONG, "b")), truncation="left", max_tokens=12)
    assert engine.submit(engine.works[-1]).tokens[0] == 12 and len(answer) == 2
