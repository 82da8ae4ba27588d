from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ridgeline_export.compress.distill.losses import Losses, Weights, map_layers, weights_of
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel


def model(task: str) -> LoadedModel:
    return cast(LoadedModel, SimpleNamespace(task=task))


def test_embedding_models_match_embeddings_and_similarities() -> None:
    weights = weights_of(Losses(), model("feature-extraction"), has_labels=False)
    assert (weights.embedding, weights.similarity, weights.logit) == (1.0, 1.0, 0.0)
    assert weights.hidden == weights.attention == weights.relation == weights.neighbour == 0.0


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "fill-mask"])
def test_other_models_match_logits(task: str) -> None:
    assert weights_of(Losses(), model(task), has_labels=False) == Weights(0, 0, 0, 1, 0, 0, 0, 0)


def test_labels_are_mixed_in_where_there_are_some() -> None:
    assert weights_of(Losses(), model("text-classification"), has_labels=True).label == 0.5
    assert weights_of(Losses(label_loss=0.0), model("text-classification"), has_labels=True).label == 0.0


@pytest.mark.parametrize(
    ("losses", "task", "sentence"),
    [
        (Losses(logit_loss=1.0), "feature-extraction", "logit_loss is 1, but the teacher is an embedding model"),
        (Losses(embedding_loss=2.0), "fill-mask", "embedding_loss is 2, but the teacher is no embedding model"),
        (Losses(similarity_loss=2.0), "text-classification", "similarity_loss is 2"),
        (Losses(label_loss=1.0), "text-classification", "label_loss is 1, but the training texts have no labels"),
        (Losses(embedding_loss=0.0, similarity_loss=0.0), "feature-extraction", "all losses have weight 0"),
    ],
)
def test_losses_that_a_model_cannot_give(losses: Losses, task: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        weights_of(losses, model(task), has_labels=False)


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        (12, 6, (1, 3, 5, 7, 9, 11)),
        (12, 4, (2, 5, 8, 11)),
        (6, 4, (1, 2, 4, 5)),
        (6, 6, (0, 1, 2, 3, 4, 5)),
        (5, 1, (4,)),
    ],
)
def test_layers_are_spread_evenly_and_the_last_learns_from_the_last(
    teacher: int, student: int, expected: tuple[int, ...]
) -> None:
    assert map_layers(Losses(), teacher, student) == expected


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [((0,), "names 1 layers, but the student has 2"), ((0, 6), "layer 6, but the teacher has 6 layers: 0 to 5")],
)
def test_layers_that_do_not_fit(layers: tuple[int, ...], sentence: str) -> None:
    given: Any = Losses(teacher_layers=layers)
    with pytest.raises(UsageError, match=sentence):
        map_layers(given, 6, 2)
