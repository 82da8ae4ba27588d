"""Inputs of tasks, by kind: checked, and described.

An empty text is refused wherever it stands, as by the server's other protocols: its answer would say nothing of a text,
and in an array it is most often a mistake. A blank is a text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.errors import quote
from ridgeline_server.http.parsing import (
    array_of_texts,
    check_count,
    check_ids,
    check_token_ids,
    checked_texts,
    inputs_of,
)
from ridgeline_server.http.schemas import IDS, TEXT, Schema
from ridgeline_server.http.tasks.parameters import unknown_field
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Input
from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.inputs import InputKind, Query, Question, Sentences


@dataclass(frozen=True, slots=True)
class Given:
    """What a client gave as inputs.

    inputs:    as the task's kind says
    is_single: one input that stood by itself, not in an array
    """

    inputs: Any
    is_single: bool


@dataclass(frozen=True, slots=True)
class _Reader:
    """has_nul: the body may hold a NUL character"""

    param: str
    max_inputs: int
    has_nul: bool

    def texts(self, value: object) -> Given:
        is_single = type(value) is str or (type(value) is list and bool(value) and type(value[0]) is int)
        return Given(inputs_of(value, self.param, self.max_inputs, self.has_nul), is_single)

    def pairs(self, value: object) -> Given:
        if type(value) is dict:
            return Given([self._pair(value, self.param)], True)
        if type(value) is not list or not any(type(entry) in (list, dict) for entry in value):
            return self.texts(value)
        check_count(value, self.param, self.max_inputs)
        return Given([self._pair(entry, f"{self.param}[{index}]") for index, entry in enumerate(value)], False)

    def questions(self, value: object) -> Given:
        if type(value) is not list:
            return Given([self._question(value, self.param)], True)
        check_count(value, self.param, self.max_inputs)
        return Given([self._question(entry, f"{self.param}[{index}]") for index, entry in enumerate(value)], False)

    def query(self, value: object) -> Given:
        query, texts = self._fields(value, self.param, ("query", "texts"))
        query = self._text(query, f"{self.param}.query")
        return Given(Query(query, self._array(texts, f"{self.param}.texts")), True)

    def sentences(self, value: object) -> Given:
        source, sentences = self._fields(value, self.param, ("source_sentence", "sentences"))
        source = self._text(source, f"{self.param}.source_sentence")
        return Given(Sentences(source, self._array(sentences, f"{self.param}.sentences")), True)

    def _pair(self, entry: object, name: str) -> Input:
        if type(entry) is str:
            return self._text(entry, name)
        if type(entry) is dict:
            text, second = self._fields(entry, name, ("text",), ("text_pair",))
            text = self._text(text, f"{name}.text")
            return text if second is None else (text, self._text(second, f"{name}.text_pair"))
        if type(entry) is not list:
            raise InvalidInputError(f"`{name}` is {quote(entry)}; give a text, or {_PAIR}", self.param)
        if any(type(part) is str for part in entry):
            if len(entry) != 2:
                raise InvalidInputError(f"`{name}` is an array of {len(entry)}; give {_PAIR}", self.param)
            return self._text(entry[0], f"{name}[0]"), self._text(entry[1], f"{name}[1]")
        check_ids(entry, name, self.param)
        return entry

    def _question(self, entry: object, name: str) -> Question:
        question, context = self._fields(entry, name, ("question", "context"))
        return Question(self._text(question, f"{name}.question"), self._text(context, f"{name}.context"))

    def _array(self, value: object, name: str) -> tuple[str, ...]:
        return tuple(array_of_texts(value, name, self.max_inputs, self.has_nul))

    def _text(self, value: object, name: str) -> str:
        if type(value) is not str:
            raise InvalidInputError(f"`{name}` is {quote(value)}; give a text", self.param)
        return checked_texts([value], name, self.has_nul)[0]

    def _fields(
        self, value: object, name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> tuple[Any, ...]:
        known = required + optional
        if type(value) is not dict:
            shape = ", ".join(f'"{each}": …' for each in known)
            raise InvalidInputError(f"`{name}` is {quote(value)}; give an object {{{shape}}}", self.param)
        for key in value:
            if key not in known:
                raise unknown_field(key, known, f"{name}.")
        for key in required:
            if key not in value:
                raise InvalidInputError(f"the field `{name}.{key}` is missing; give it", f"{name}.{key}")
        return tuple(value.get(key) for key in known)


_PAIR = 'a pair as ["…", "…"] or {"text": "…", "text_pair": "…"}'
_READERS: dict[InputKind, Callable[[_Reader, object], Given]] = {
    InputKind.TEXTS: _Reader.texts,
    InputKind.PAIRS: _Reader.pairs,
    InputKind.QUESTIONS: _Reader.questions,
    InputKind.QUERY: _Reader.query,
    InputKind.SENTENCES: _Reader.sentences,
}


def parse(
    task: Task, value: object, info: ModelInfo, config: ServerConfig, *, has_nul: bool = True, param: str = "inputs"
) -> Given:
    """The inputs of a task that a client gave for a model.

    has_nul: the body may hold a NUL character

    Raises: InvalidInputError for another shape, an empty text, a NUL character, too many inputs, or token ids that the
    model does not know or the task does not take
    """
    given = _READERS[task.inputs](_Reader(param, config.max_client_batch_size, has_nul), value)
    if task.inputs in (InputKind.TEXTS, InputKind.PAIRS):
        ids = [entry for entry in given.inputs if type(entry) is list]
        if ids and task.needs_text:
            raise InvalidInputError(f"`{param}` holds token ids; {task.name} takes texts", param)
        check_token_ids(ids, param, info.vocab_size, info.max_request_tokens or config.max_request_tokens)
    return given


def schema(task: Task) -> Schema:
    """The JSON Schema of what `parse` takes."""
    if task.inputs is InputKind.QUERY:
        return _object(("query", TEXT), ("texts", _TEXTS))
    if task.inputs is InputKind.SENTENCES:
        return _object(("source_sentence", TEXT), ("sentences", _TEXTS))
    if task.inputs is InputKind.QUESTIONS:
        question = _object(("question", TEXT), ("context", TEXT))
        return {"anyOf": [question, _array(question)], "description": "A question about a text, or an array of such."}
    if task.inputs is InputKind.TEXTS:
        about = "A text, or an array of texts" if task.needs_text else "A text, token ids, or an array of either"
        forms = [TEXT, _TEXTS] if task.needs_text else [TEXT, _TEXTS, IDS, _array(IDS)]
        return {"anyOf": forms, "description": f"{about}."}
    pair = {**_object(("text", TEXT)), "description": "A text, or two that are read together."}
    pair["properties"]["text_pair"] = {**TEXT, "type": ["string", "null"]}
    entries = [TEXT, {**_array(TEXT), "minItems": 2, "maxItems": 2}, pair]
    entry = {"anyOf": entries if task.needs_text else [*entries, IDS]}
    about = "An array of two texts is two inputs; a pair by itself is an object, or an array in an array."
    forms = [TEXT, pair, _array(entry)] if task.needs_text else [TEXT, pair, _array(entry), IDS]
    return {"anyOf": forms, "description": f"A text, a pair of texts, or an array of such. {about}"}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items, "minItems": 1}


def _object(*fields: tuple[str, Schema]) -> Schema:
    names = [name for name, _ in fields]
    return {"type": "object", "properties": dict(fields), "required": names, "additionalProperties": False}


_TEXTS = _array(TEXT)
