from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ridgeline_export.load import LoadedModel
from ridgeline_export.metrics import compare, neighbour_recall, pool, spearman
from ridgeline_export.sentence_modules import SentenceModules


def _loaded(task: str, labels: tuple[str, ...] | None = None, problem_type: str | None = None) -> LoadedModel:
    modules = SentenceModules(Path()) if task == "feature-extraction" else None
    config = SimpleNamespace(problem_type=problem_type)
    model = SimpleNamespace(config=config)
    return cast(LoadedModel, SimpleNamespace(task=task, labels=labels, modules=modules, model=model))


def _rows(*values: Any) -> list[Any]:
    return [np.array(value, np.float32) for value in values]


def test_pooling_of_token_states() -> None:
    rows = _rows([[1, 5], [3, 1]], [[2, 2]])
    assert pool(rows, "mean").tolist() == [[2, 3], [2, 2]]
    assert pool(rows, "max").tolist() == [[3, 5], [2, 2]]
    assert pool(rows, "cls").tolist() == [[1, 5], [2, 2]]
    assert pool(rows, "last").tolist() == [[3, 1], [2, 2]]


def test_embeddings_are_judged_by_the_cosine_of_pooled_states() -> None:
    expected = _rows([[1, 0]], [[0, 1]], [[1, 1]])
    given = _rows([[2, 0]], [[1, 0]], [[1, 1]])
    metric, figures = compare(_loaded("feature-extraction"), expected, given)
    assert metric == "mean_cosine"
    assert figures["mean_cosine"] == pytest.approx(2 / 3)
    assert figures["cosine_min"] == pytest.approx(0)
    assert figures["max_abs_error"] == 1


def test_identical_answers_are_perfect() -> None:
    rows = [np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32) for seed in range(9)]
    _, figures = compare(_loaded("feature-extraction"), rows, rows)
    assert figures["mean_cosine"] == pytest.approx(1) and figures["spearman"] == pytest.approx(1)
    assert figures["max_abs_error"] == 0


def test_classes_are_judged_by_agreement() -> None:
    expected, given = _rows([[1, 2, 0]], [[3, 0, 0]]), _rows([[1, 1.5, 0]], [[0, 1, 0]])
    metric, figures = compare(_loaded("text-classification", ("a", "b", "c")), expected, given)
    assert (metric, figures["label_agreement"]) == ("label_agreement", 0.5)
    assert figures["largest_logit_difference"] == 3


def test_multi_label_models_are_judged_label_by_label() -> None:
    loaded = _loaded("text-classification", ("a", "b", "c", "d"), "multi_label_classification")
    _, figures = compare(loaded, _rows([[1, -1, 2, -2]]), _rows([[1, 1, 2, -2]]))
    assert figures["label_agreement"] == 0.75


def test_models_of_one_score_are_judged_by_order() -> None:
    loaded = _loaded("text-classification", ("score",))
    metric, figures = compare(loaded, _rows([[1]], [[2]], [[3]]), _rows([[10]], [[30]], [[20]]))
    assert metric == "order_agreement"
    assert figures["order_agreement"] == pytest.approx(2 / 3)


def test_answers_agree_when_start_and_end_both_do() -> None:
    expected = _rows([[5, 0], [0, 5]], [[5, 0], [0, 5]])
    given = _rows([[5, 0], [0, 4]], [[5, 6], [0, 5]])
    _, figures = compare(_loaded("question-answering"), expected, given)
    assert figures["label_agreement"] == 0.5


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification", "fill-mask", "question-answering"])
@pytest.mark.parametrize("labels", [("a", "b"), ("score",)])
def test_nan_never_looks_good(task: str, labels: tuple[str, ...]) -> None:
    expected = _rows([[1, 2]], [[2, 1]])
    metric, figures = compare(_loaded(task, labels), expected, _rows([[math.nan, math.nan]], [[2, 1]]))
    assert math.isnan(figures[metric])


def test_neighbours_are_recalled_whatever_the_width() -> None:
    angles = np.linspace(0, np.pi, 7)
    a = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    wide = np.concatenate([a, np.zeros((7, 3))], axis=1)
    assert neighbour_recall(a, wide, neighbours=2) == 1.0
    assert neighbour_recall(a, a[::-1].copy(), neighbours=2) == 1.0
    shuffled = a[[3, 0, 6, 1, 5, 2, 4]]
    nearest = [set(np.argsort(-(x @ x[i]))[1:3].tolist()) for x in (a, shuffled) for i in range(7)]
    overlap = [len(nearest[i] & nearest[7 + i]) / 2 for i in range(7)]
    assert neighbour_recall(a, shuffled, neighbours=2) == pytest.approx(np.mean(overlap))
    assert math.isnan(neighbour_recall(a[:1], a[:1]))
    assert math.isnan(neighbour_recall(a, np.full((7, 2), np.nan)))


def test_equal_numbers_have_equal_ranks() -> None:
    few, many = np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(few, many) == spearman(few, many[[2, 1, 0, 3]]) == pytest.approx(0.7745967)
    assert spearman(many, many) == pytest.approx(1.0)
    assert math.isnan(spearman(few, np.ones(4)))
    assert math.isnan(spearman(few, np.array([1.0, 2.0, math.nan, 3.0])))
    assert math.isnan(spearman(few[:1], many[:1]))
