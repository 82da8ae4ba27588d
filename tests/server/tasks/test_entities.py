"""Entities by hand: what tokens and words make of their classes' scores."""

from __future__ import annotations

import numpy as np
import pytest

from ridgeline_server.tasks.entities import grouped, kinds_of, merged, token_units, word_units
from ridgeline_server.tasks.token_classification import Entity

LABELS = ("O", "B-A", "I-A", "B")
SCORES = np.array([[0.1, 0.4, 0.3, 0.2], [0.0, 0.1, 0.1, 0.8], [0.6, 0.1, 0.2, 0.1]], dtype=np.float32)


@pytest.mark.parametrize(
    ("strategy", "classes", "scores"),
    [("first", [1, 0], [0.4, 0.6]), ("average", [3, 0], [0.5, 0.6]), ("max", [3, 0], [0.8, 0.6])],
)
def test_words_have_one_class(strategy: str, classes: list[int], scores: list[float]) -> None:
    units = word_units(SCORES, np.array([True, True, False]), strategy)
    assert units.bounds.tolist() == [0, 2, 3]
    assert units.classes.tolist() == classes
    assert units.scores == pytest.approx(scores)


def test_a_beginning_class_always_begins() -> None:
    classes = np.eye(4, dtype=np.float32)[[2, 2, 1, 2, 1, 3, 0, 0]]
    kinds = kinds_of(LABELS)
    assert kinds.groups == ["O", "A", "A", "B"]
    assert grouped(token_units(classes), kinds).tolist() == [0, 2, 4, 5, 6, 8]
    assert grouped(token_units(classes[:0]), kinds).tolist() == [0]


def test_of_entities_that_overlap_the_longest_or_surest_stays() -> None:
    def entity(start: int, end: int, score: float) -> Entity:
        return Entity("A", score, "", start, end)

    first, longer, sure, unsure, alone = (
        entity(0, 4, 0.9),
        entity(2, 8, 0.1),
        entity(8, 9, 0.7),
        entity(8, 9, 0.6),
        entity(9, 10, 0.2),
    )
    assert merged([first, longer, unsure, alone, sure]) == [longer, sure, alone]
    assert merged([]) == []
