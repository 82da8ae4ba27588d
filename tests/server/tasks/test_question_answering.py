"""Answers equal those of transformers' QuestionAnsweringPipeline.

transformers 5 has it no more: it is written out here, slowly, with what is left of it in the pipeline for documents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.pipelines.document_question_answering import select_starts_ends

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.tasks.answers import Answer
from ridgeline_server.tasks.inputs import Question
from ridgeline_server.tasks.question_answering import TASK
from tests.server.tasks.torch_engine import TorchEngine
from tests.server.tasks.unicode_texts import random_texts

MAX_TOKENS = 160
KINDS = ("bert", "roberta", "xlm-roberta", "deberta-v2")


@pytest.fixture(scope="module")
def engines(tiny_models: Callable[[str, str], Path]) -> dict[str, TorchEngine]:
    task = "question-answering"
    return {kind: TorchEngine(tiny_models(kind, task), task, max_tokens=MAX_TOKENS) for kind in KINDS}


def _transformers_answers(
    engine: TorchEngine,
    tokenizer: Any,
    question: Question,
    *,
    top_k: int = 1,
    doc_stride: int | None = None,
    max_answer_len: int = 15,
    max_seq_len: int = MAX_TOKENS,
    handle_impossible_answer: bool = False,
    align_to_words: bool = True,
) -> list[dict[str, Any]]:
    encoded = tokenizer(
        question.question,
        question.context,
        truncation="only_second",
        max_length=max_seq_len,
        stride=min(max_seq_len // 2, 128) if doc_stride is None else doc_stride,
        return_token_type_ids=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    answers: list[dict[str, Any]] = []
    least_null = 1000000.0
    for window, encoding in enumerate(encoded.encodings):
        feed = {name: torch.tensor([encoded[name][window]]) for name in tokenizer.model_input_names}
        with torch.no_grad():
            output = engine.model(**feed)
        is_outside = [text != 1 for text in encoding.sequence_ids]
        for index, token in enumerate(encoding.ids):
            if token == tokenizer.cls_token_id:
                is_outside[index] = False
        starts, ends, scores, least_null = select_starts_ends(
            output["start_logits"].numpy(),
            output["end_logits"].numpy(),
            np.array(is_outside),
            np.array([encoding.attention_mask]),
            least_null,
            2 * top_k + 10 if align_to_words else top_k,
            handle_impossible_answer,
            max_answer_len,
        )
        for start, end, score in zip(starts.tolist(), ends.tolist(), scores.tolist(), strict=True):
            if not (1 <= start <= end):
                continue  # of probability 0: it is listed only where there are too few others
            first, last = encoding.offsets[start][0], encoding.offsets[end][1]
            if align_to_words:
                first = encoding.word_to_chars(encoding.token_to_word(start), 1)[0]
                last = encoding.word_to_chars(encoding.token_to_word(end), 1)[1]
            text = question.context[first:last]
            known = next((one for one in answers if one["answer"].lower() == text.lower()), None)
            if known is not None:
                known["score"] += score
            else:
                answers.append({"score": score, "start": first, "end": last, "answer": text})
    if handle_impossible_answer:
        answers.append({"score": least_null, "start": 0, "end": 0, "answer": ""})
    return sorted(answers, key=lambda one: one["score"], reverse=True)[:top_k]


def _questions(count: int, pieces: int, seed: int) -> list[Question]:
    asked, contexts = random_texts(count, 5, seed), random_texts(count, pieces, seed + 1)
    return [Question(question, context) for question, context in zip(asked, contexts, strict=True)]


def _check(ours: Any, theirs: list[dict[str, Any]]) -> None:
    answers = [ours] if type(ours) is Answer else ours
    found = [{name: getattr(one, name) for name in Answer.__slots__} for one in answers]
    assert found == [{**one, "score": pytest.approx(one["score"], rel=1e-4)} for one in theirs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"top_k": 6, "doc_stride": 11, "max_seq_len": 96},
        {"top_k": 3, "max_answer_len": 4, "handle_impossible_answer": True},
        {"top_k": 4, "align_to_words": False, "doc_stride": 0},
    ],
    ids=["default", "windows", "impossible", "tokens"],
)
def test_as_transformers(engines: dict[str, TorchEngine], kind: str, parameters: dict[str, Any]) -> None:
    engine = engines[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(engine.model.config.name_or_path)
    questions = _questions(5, 80, seed=len(parameters))
    answers = engine.ask(TASK, questions, **parameters)
    assert len(engine.submit(engine.works[-1]).sequences) > len(questions)
    for question, answer in zip(questions, answers, strict=True):
        _check(answer, _transformers_answers(engine, tokenizer, question, **parameters))


def test_answers_are_parts_of_the_context(engines: dict[str, TorchEngine]) -> None:
    for engine in engines.values():
        for question, answers in zip(
            questions := _questions(3, 60, seed=9), engine.ask(TASK, questions, top_k=5), strict=True
        ):
            assert 0 < len(answers) <= 5
            assert all(question.context[one.start : one.end] == one.answer for one in answers)


def test_where_there_are_too_few_spans_all_are_told(engines: dict[str, TorchEngine]) -> None:
    (answers,) = engines["bert"].ask(TASK, [Question("who?", "x y")], top_k=50)
    assert sorted(one.answer for one in answers) == ["x", "x y", "y"]


def test_a_context_without_words_has_no_answer(engines: dict[str, TorchEngine]) -> None:
    for top_k, expected in ((1, Answer(0.0, 0, 0, "")), (2, [Answer(0.0, 0, 0, "")])):
        assert engines["bert"].ask(TASK, [Question("who?", " \n")], top_k=top_k) == [expected]


def test_a_question_is_cut_where_asked(engines: dict[str, TorchEngine]) -> None:
    question = Question(" " * 300 + "the value of the function is what", "return the value of the function " * 40)
    for engine in engines.values():
        (ids,) = engine.tokenizer.vocabulary.encode([question.question])
        whole = engine.ask(TASK, [question], top_k=9)
        assert engine.ask(TASK, [question], top_k=9, max_question_len=min(512, len(ids))) == whole
        for most in (1, 4):
            assert engine.ask(TASK, [question], top_k=9, max_question_len=most) != whole
            windows = engine.submit(engine.works[-1]).sequences
            assert len(windows) > 1
            for tokens in windows:
                assert tokens.ids[tokens.texts == 0].tolist() == ids[:most]


@pytest.mark.parametrize("words", [100, 150, 156])
def test_windows_beside_a_long_question_overlap_less_unless_asked(engines: dict[str, TorchEngine], words: int) -> None:
    engine, question = engines["bert"], Question("a " * words, "b " * 400)
    assert engine.ask(TASK, [question])[0].answer
    room = MAX_TOKENS - 3 - words
    advance = room - min(80, room * 3 // 4)
    assert len(engine.submit(engine.works[-1]).sequences) == -(-(400 - room) // advance) + 1
    with pytest.raises(InvalidInputError, match=f"windows that overlap by 80 tokens .* they hold {room} tokens"):
        engine.ask(TASK, [question], doc_stride=80)


def test_the_smallest_windows_need_no_overlap_to_be_asked_for(engines: dict[str, TorchEngine]) -> None:
    assert engines["bert"].ask(TASK, [Question("a", "b " * 9)], max_seq_len=5)[0].answer


@pytest.mark.parametrize(
    ("question", "parameters", "message"),
    [
        (Question("", "a"), {}, "the question of input 0 is empty"),
        (Question("a", ""), {}, "the context of input 0 is empty"),
        (Question("a", "b"), {"max_seq_len": 161}, "`max_seq_len` is 161; model 'tiny' reads at most 160 tokens"),
        (Question("a", "b"), {"doc_stride": 40, "max_seq_len": 40}, "`doc_stride` is 40; a window has 40 tokens"),
        (Question("a " * 200, "b " * 200), {}, "leaves no room"),
        (Question("a " * 80, "b " * 200), {"doc_stride": 100}, "windows that overlap by 100 tokens"),
    ],
)
def test_what_cannot_be_asked(
    engines: dict[str, TorchEngine], question: Question, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        engines["bert"].ask(TASK, [question], **parameters)
