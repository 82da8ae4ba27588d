"""Inputs of tasks: every shape that each kind takes, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jsonschema_rs
import pytest

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.http.errors import EmptyInputError, TooManyInputsError
from ridgeline_server.http.tasks.inputs import Given, parse, schema
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind, Query, Question, Sentences
from tests.server.http_fakes import model_info

CONFIG = ServerConfig(bundles=(Path("tiny"),), max_client_batch_size=3, max_request_tokens=6)
TEXTS, PAIRS, QUESTIONS, QUERY, SENTENCES = InputKind
ROCKET = "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"
BOTH = {"text": "a", "text_pair": "b"}
ASKED = {"question": "why?", "context": "so."}


@dataclass(frozen=True, slots=True)
class _NoOptions:
    pass


def task(kind: InputKind, needs_text: bool = False) -> Task:
    def prepare(*_: object) -> Work:
        raise AssertionError("not asked here")

    return Task("probe", "", ("feature-extraction",), kind, _NoOptions, prepare, {}, needs_text=needs_text)


def read(kind: InputKind, value: object, needs_text: bool = False) -> Given:
    return parse(task(kind, needs_text), value, model_info(), CONFIG)


GOOD = [
    (TEXTS, "a", ["a"], True),
    (TEXTS, " ", [" "], True),
    (TEXTS, ["a"], ["a"], False),
    (
        TEXTS,
        ["a", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"],
        ["a", "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}"],
        False,
    ),
    (TEXTS, [1, 2, 3, 4], [[1, 2, 3, 4]], True),
    (TEXTS, [[1, 2], [3]], [[1, 2], [3]], False),
    (PAIRS, "a", ["a"], True),
    (PAIRS, ["a", "b"], ["a", "b"], False),
    (PAIRS, BOTH, [("a", "b")], True),
    (PAIRS, {"text": "a"}, ["a"], True),
    (PAIRS, {"text": "a", "text_pair": None}, ["a"], True),
    (PAIRS, [["a", "b"]], [("a", "b")], False),
    (PAIRS, ["c", ["a", "b"], BOTH], ["c", ("a", "b"), ("a", "b")], False),
    (PAIRS, [7, 8], [[7, 8]], True),
    (PAIRS, [[7, 8], ["a", "b"]], [[7, 8], ("a", "b")], False),
    (QUESTIONS, ASKED, [Question("why?", "so.")], True),
    (QUESTIONS, [ASKED, ASKED], [Question("why?", "so.")] * 2, False),
    (QUERY, {"query": "q", "texts": ["a", "b"]}, Query("q", ("a", "b")), True),
    (SENTENCES, {"source_sentence": "q", "sentences": ["a"]}, Sentences("q", ("a",)), True),
]
BAD = [
    (TEXTS, 3, "inputs", "is 3"),
    (TEXTS, {"text": "a"}, "inputs", "is an object"),
    (TEXTS, [], "inputs", "empty array"),
    (TEXTS, "", "inputs", "empty text"),
    (TEXTS, ["a", ""], "inputs", "`inputs[1]` is an empty text"),
    (TEXTS, ["a"] * 4, "inputs", "may hold 3"),
    (TEXTS, ["a", 1], "inputs", "another type"),
    (TEXTS, [["a", "b"]], "inputs", "token ids are whole numbers"),
    (TEXTS, "a\0b", "inputs", "NUL"),
    (TEXTS, [1000], "inputs", "0 to 999"),
    (TEXTS, [[1] * 4, [2] * 3], "inputs", "7 token ids"),
    (PAIRS, [["a"]], "inputs", "array of 1; give a pair"),
    (PAIRS, [["a", "b", "c"]], "inputs", "array of 3; give a pair"),
    (PAIRS, [["a", 1]], "inputs", "`inputs[0][1]` is 1; give a text"),
    (PAIRS, [["a", ""]], "inputs[0][1]", "empty text"),
    (PAIRS, [[]], "inputs", "empty array"),
    (PAIRS, [BOTH, 4], "inputs", "`inputs[1]` is 4"),
    (PAIRS, [["a", "b"]] * 4, "inputs", "may hold 3"),
    (PAIRS, [BOTH, [-1]], "inputs", "token id -1"),
    (PAIRS, {"text_pair": "b"}, "inputs.text", "missing"),
    (PAIRS, {"text": "a", "text_piar": "b"}, "inputs.text_piar", "allowed: text_pair, text"),
    (PAIRS, {"text": "a", "text_pair": "b\0"}, "inputs.text_pair", "NUL"),
    (QUESTIONS, "why?", "inputs", 'give an object {"question": …, "context": …}'),
    (QUESTIONS, {"question": "why?"}, "inputs.context", "missing"),
    (QUESTIONS, {"question": "why?", "context": ["so."]}, "inputs", "`inputs.context` is an array"),
    (QUESTIONS, [ASKED, {"question": "", "context": "so."}], "inputs[1].question", "empty text"),
    (QUESTIONS, [ASKED] * 4, "inputs", "may hold 3"),
    (QUESTIONS, [], "inputs", "empty array"),
    (QUERY, ["q"], "inputs", "is an array"),
    (QUERY, {"query": "q", "texts": []}, "inputs.texts", "empty array"),
    (QUERY, {"query": "q", "texts": ["a"] * 4}, "inputs.texts", "may hold 3"),
    (QUERY, {"query": "q", "texts": ["a", 2]}, "inputs.texts", "`inputs.texts[1]` is 2"),
    (QUERY, {"query": 3, "texts": ["a"]}, "inputs", "`inputs.query` is 3"),
    (SENTENCES, {"source_sentence": "q", "sentences": "a"}, "inputs.sentences", "give an array of texts"),
    (SENTENCES, {"source_sentence": "q", "sentences": ["a", ""]}, "inputs.sentences", "sentences[1]` is an empty"),
]


@pytest.mark.parametrize(("kind", "value", "handed_on", "is_single"), GOOD)
def test_reads_every_shape(kind: InputKind, value: object, handed_on: object, is_single: bool) -> None:
    assert read(kind, value) == Given(handed_on, is_single)
    assert jsonschema_rs.is_valid(schema(task(kind)), value)


@pytest.mark.parametrize(("kind", "value", "param", "said"), BAD, ids=range(len(BAD)))
def test_refuses_with_the_place_and_what_is_allowed(kind: InputKind, value: object, param: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(kind, value)
    assert refused.value.param == param and said in str(refused.value)


def test_refusals_are_of_their_kinds() -> None:
    with pytest.raises(TooManyInputsError):
        read(QUERY, {"query": "q", "texts": ["a"] * 4})
    with pytest.raises(EmptyInputError):
        read(PAIRS, [["", "b"]])
    with pytest.raises(RequestTooLargeError):
        read(TEXTS, [1] * 7)


@pytest.mark.parametrize(("kind", "value"), [(TEXTS, [1, 2]), (TEXTS, [[1]]), (PAIRS, [1]), (PAIRS, ["a", [1]])])
def test_token_ids_are_no_input_where_text_is_needed(kind: InputKind, value: object) -> None:
    with pytest.raises(InvalidInputError, match="probe takes texts"):
        read(kind, value, needs_text=True)
    assert not jsonschema_rs.is_valid(schema(task(kind, needs_text=True)), value)
