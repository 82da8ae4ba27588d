"""Entities out of the classes of tokens, as transformers' TokenClassificationPipeline aggregates them.

Tokens become units (the tokens themselves, or words that they are parts of), each with one class; neighbours of one
kind become an entity. A class such as B-PER begins an entity of the kind PER, I-PER or plain PER goes on with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ridgeline_server.sequences import Float32Array

FIRST, AVERAGE, MAX = WORD_STRATEGIES = ("first", "average", "max")

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Units:
    """Tokens, or words of them, each with one class.

    bounds:  [units + 1] where each begins, a token's index; the last one is how many tokens there are
    classes: [units] index of its class
    scores:  [units] float32
    """

    bounds: Indices
    classes: Indices
    scores: Float32Array


@dataclass(frozen=True, slots=True)
class Kinds:
    """What a model's classes say of entities, by the class' index.

    tags:   number of the kind, the same for B-PER and I-PER
    begins: True where the class always begins an entity
    groups: what entities of the kind are called: all behind the first "-" of the class' name
    """

    tags: Indices
    begins: npt.NDArray[np.bool_]
    groups: list[str]


def kinds_of(labels: Sequence[str]) -> Kinds:
    """Kinds of entities by the names of a model's classes."""
    names = [label[2:] if label.startswith(("B-", "I-")) else label for label in labels]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return Kinds(
        tags=np.array([numbers[name] for name in names], dtype=np.intp),
        begins=np.array([label.startswith("B-") for label in labels], dtype=np.bool_),
        groups=[label.split("-", 1)[-1] for label in labels],
    )


def token_units(scores: Float32Array) -> Units:
    """Each token by itself, with its likeliest class.

    scores: [tokens, classes] probabilities
    """
    return _units(np.arange(len(scores) + 1), scores)


def word_units(scores: Float32Array, is_subword: npt.NDArray[np.bool_], strategy: str) -> Units:
    """Words with one class each: that of the first token, of the token that is surest, or of the average.

    scores:     [tokens, classes] probabilities
    is_subword: [tokens] True where a token goes on with the word of the one before
    strategy:   one of WORD_STRATEGIES
    """
    if not len(scores):
        return token_units(scores)
    starts = np.flatnonzero(np.concatenate(([True], ~is_subword[1:])))
    bounds = np.append(starts, len(scores))
    if strategy == FIRST:
        return _units(bounds, scores[starts])
    if strategy == AVERAGE:
        sums: Float32Array = np.add.reduceat(scores, starts, axis=0)
        averages: Float32Array = sums / np.diff(bounds).astype(np.float32)[:, None]
        return _units(bounds, averages)
    assert strategy == MAX, strategy
    surest = scores.max(axis=1)
    # Among a word's tokens, the first of those with the highest score.
    order = np.lexsort((-surest, np.repeat(np.arange(len(starts)), np.diff(bounds))))
    return _units(bounds, scores[order[starts]])


def grouped(units: Units, kinds: Kinds) -> Indices:
    """[entities + 1] where each entity begins, a unit's index; the last one is how many units there are."""
    if not len(units.classes):
        return np.zeros(1, dtype=np.intp)
    tags = kinds.tags[units.classes]
    is_new = (tags[1:] != tags[:-1]) | kinds.begins[units.classes][1:]
    return np.append(np.flatnonzero(np.concatenate(([True], is_new))), len(tags))


class _Placed(Protocol):
    score: float
    start: int
    end: int


_E = TypeVar("_E", bound=_Placed)


def merged(entities: Sequence[_E]) -> list[_E]:
    """Entities of overlapping windows, each once: of those that overlap the longest stays, or else the surest."""
    kept: list[_E] = []
    for entity in sorted(entities, key=attrgetter("start")):
        last = kept[-1] if kept else None
        if last is None or entity.start >= last.end:
            kept.append(entity)
        elif (entity.end - entity.start, entity.score) > (last.end - last.start, last.score):
            kept[-1] = entity
    return kept


def _units(bounds: Indices, scores: Float32Array) -> Units:
    classes = scores.argmax(axis=1)
    best: Float32Array = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    return Units(bounds, classes, best)
