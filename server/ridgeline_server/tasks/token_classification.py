"""Token classification: the classes of a text's tokens, or the entities that they make, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array, Reading, Readout, ReadoutKind, Tokens, Vocabulary
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.entities import (
    WORD_STRATEGIES,
    Kinds,
    grouped,
    kinds_of,
    merged,
    token_units,
    word_units,
)
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import SOFTMAX, class_names, finite, probabilities
from ridgeline_server.tasks.truncation import ABOUT_TRUNCATION, TRUNCATIONS, read_truncation

NONE, SIMPLE = "none", "simple"


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of transformers' TokenClassificationPipeline, whose own default is to aggregate nothing."""

    aggregation_strategy: str = parameter(
        SIMPLE,
        about="Whether tokens are told one by one (none) or as entities: by each token's class (simple), or by words "
        "of one class each, that of its first token (first), of the average (average) or of its surest token (max).",
        choices=(NONE, SIMPLE, *WORD_STRATEGIES),
    )
    ignore_labels: tuple[str, ...] = parameter(
        ("O",), about="Classes, or kinds of entities, that are not told.", most=1000
    )
    stride: int | None = parameter(
        None,
        about="Read all of a text that is too long, in windows which overlap by so many tokens. Without it the text is "
        "cut or refused.",
        least=0,
        most=100_000,
    )
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and a text may have thousands
class ClassifiedToken:
    """A token's likeliest class.

    index:      which token of the text it is, special tokens included
    word:       the token as the vocabulary writes it
    start, end: characters (Unicode code points) of the text, first and one past the last
    """

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


@dataclass(slots=True)
class Entity:
    """A run of tokens of one kind.

    score:      mean of those of its tokens or words
    word:       its text as the tokenizer writes it, without capitals where the model has none
    start, end: characters (Unicode code points) of the text, first and one past the last
    """

    entity_group: str
    score: float
    word: str
    start: int
    end: int


def prepare(model: ModelInfo, inputs: Sequence[str], parameters: Parameters) -> Work:
    """A sequence for each text, or several windows; the answer to each: ClassifiedToken or Entity in their order.

    Raises InvalidInputError for parameters that contradict each other.
    """
    strategy, stride = parameters.aggregation_strategy, parameters.stride
    truncate, reading = read_truncation(model, parameters.truncation)
    side = None if reading is None else reading.side
    if stride is not None:
        _check_stride(model, stride, parameters)
    return Work(
        inputs=inputs,
        finish=partial(_finish, model, inputs, strategy, frozenset(parameters.ignore_labels)),
        reading=Reading(side=side, overlap=stride, has_offsets=True),
        readout=Readout(ReadoutKind.TOKENS),
        truncate=truncate,
    )


def _check_stride(model: ModelInfo, stride: int, parameters: Parameters) -> None:
    if parameters.aggregation_strategy == NONE:
        raise InvalidInputError(
            "`stride` is given and `aggregation_strategy` is none: tokens of several windows are not told one by one; "
            "leave `stride` out, or give another strategy",
            "stride",
        )
    if parameters.truncation is not None:
        raise InvalidInputError(
            "`stride` is given, so that all of a text is read, and `truncation` too; leave one of them out",
            "truncation",
        )
    if stride >= model.max_tokens:
        raise InvalidInputError(
            f"`stride` is {stride}; model '{model.name}' reads {model.max_tokens} tokens at once: give less than that",
            "stride",
        )


def _finish(
    model: ModelInfo, texts: Sequence[str], strategy: str, ignored: frozenset[str], result: Result
) -> list[list[ClassifiedToken] | list[Entity]]:
    assert model.vocabulary is not None
    windows: list[list[_Window]] = [[] for _ in texts]
    labels: list[str] = []
    for tokens, logits in zip(result.sequences, result.arrays, strict=True):
        scores = probabilities(finite(logits), SOFTMAX)
        labels = labels or class_names(model, scores.shape[1])
        windows[tokens.input].append(_Window(texts[tokens.input], tokens, scores, model.vocabulary))
    if strategy == NONE:
        return [[one for window in each for one in window.classified(labels, ignored)] for each in windows]
    kinds = kinds_of(labels)
    answers: list[list[ClassifiedToken] | list[Entity]] = []
    for each in windows:
        entities = [entity for window in each for entity in window.entities(strategy, kinds, ignored)]
        answers.append(merged(entities) if len(each) > 1 else entities)
    return answers


class _Window:
    """The tokens of a text, or of a window of it, without the special tokens around them."""

    def __init__(self, text: str, tokens: Tokens, scores: Float32Array, vocabulary: Vocabulary) -> None:
        """scores: [tokens, classes], special tokens included."""
        assert tokens.texts is not None and tokens.offsets is not None
        self._indices = np.flatnonzero(tokens.texts >= 0)
        self._text = text
        self._ids: list[int] = tokens.ids[self._indices].tolist()
        self._offsets: list[list[int]] = tokens.offsets[self._indices].tolist()
        self._scores = scores[self._indices]
        self._vocabulary = vocabulary

    def classified(self, labels: Sequence[str], ignored: frozenset[str]) -> list[ClassifiedToken]:
        units = token_units(self._scores)
        is_told = np.array([label not in ignored for label in labels])[units.classes]
        classes, scores, indices = units.classes.tolist(), units.scores.tolist(), self._indices.tolist()
        return [
            ClassifiedToken(labels[classes[at]], scores[at], indices[at], self._word(at), *self._offsets[at])
            for at in np.flatnonzero(is_told).tolist()
        ]

    def entities(self, strategy: str, kinds: Kinds, ignored: frozenset[str]) -> list[Entity]:
        join = self._vocabulary.join
        has_words = strategy != SIMPLE
        units = word_units(self._scores, self._subwords(), strategy) if has_words else token_units(self._scores)
        edges = grouped(units, kinds).tolist()
        bounds, classes = units.bounds.tolist(), units.classes.tolist()
        found = []
        for first, end in pairwise(edges):
            group = kinds.groups[classes[first]]
            if group in ignored:
                continue
            edge = bounds[first : end + 1]
            if has_words:  # text of texts, as transformers writes it
                words = [join(self._words(*each)) for each in pairwise(edge)]
            else:
                words = self._words(edge[0], edge[-1])
            score = float(units.scores[first:end].mean())
            found.append(Entity(group, score, join(words), self._offsets[edge[0]][0], self._offsets[edge[-1] - 1][1]))
        return found

    def _words(self, first: int, end: int) -> list[str]:
        return [self._word(at) for at in range(first, end)]

    def _word(self, at: int) -> str:
        """A token as the vocabulary writes it; what has no token as it stands in the text."""
        token_id = self._ids[at]
        token = None if token_id == self._vocabulary.unk_id else self._vocabulary.token(token_id)
        return self._text[slice(*self._offsets[at])] if token is None else token

    def _subwords(self) -> npt.NDArray[np.bool_]:
        """[tokens] True where a token goes on with the word of the one before, as transformers guesses it.

        Where a prefix marks such tokens, by their length, which that of the text does not have; else by white space.
        """
        known, text = self._vocabulary, self._text
        found = []
        for token_id, (start, end) in zip(self._ids, self._offsets, strict=True):
            if token_id == known.unk_id:
                found.append(False)
            elif known.marks_subwords:
                found.append(len(known.token(token_id) or "") != end - start)
            else:
                found.append(start > 0 and " " not in text[start - 1 : start + 1])
        return np.array(found, dtype=np.bool_)


TASK = Task(
    name="token-classification",
    about="Entities in texts, or the classes of their tokens, with scores and where they stand",
    models=("token-classification",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["Ada Lovelace was born in London."], "parameters": {"aggregation_strategy": "first"}},
    answer=Entity,
    needs_text=True,
    detailed=ClassifiedToken,
)
