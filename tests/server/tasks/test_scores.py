from __future__ import annotations

import numpy as np
import pytest

from ridgeline_server.errors import ExecutionError
from ridgeline_server.tasks.scores import class_names, default_function, finite, probabilities, rank
from tests.server.http_fakes import model_info

LARGEST = float(np.finfo(np.float32).max)
EXTREMES = [[-200.0, 3.0], [LARGEST, -LARGEST], [LARGEST, LARGEST], [-LARGEST, -LARGEST], [0.0, -1e-45], [88.8, -104.0]]


def test_no_logits_make_scores_overflow() -> None:
    logits = np.array(EXTREMES, dtype=np.float32)
    with np.errstate(all="raise", under="ignore"):
        shares, chances = probabilities(logits, "softmax"), probabilities(logits, "sigmoid")
    for scores in (shares, chances):
        assert scores.dtype == np.float32 and np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all()
    assert np.allclose(shares.sum(axis=1), 1)
    assert shares[0].tolist() == [0, 1] and shares[1].tolist() == [1, 0] and shares[2].tolist() == [0.5, 0.5]
    assert chances[1].tolist() == [1, 0] and chances[4, 0] == 0.5


def test_scores_are_those_of_exact_arithmetic() -> None:
    logits = np.random.default_rng(0).normal(0, 8, (50, 7)).astype(np.float32)
    exact = logits.astype(np.float64)
    softmax = np.exp(exact) / np.exp(exact).sum(axis=1, keepdims=True)
    assert np.abs(probabilities(logits, "softmax") - softmax).max() < 2e-7
    assert np.abs(probabilities(logits, "sigmoid") - 1 / (1 + np.exp(-exact))).max() < 2e-7
    assert probabilities(logits, "none") is logits


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(ValueError, match="'relu' is unknown; allowed: softmax, sigmoid, none"):
        probabilities(np.zeros((1, 1), dtype=np.float32), "relu")


@pytest.mark.parametrize(
    ("problem", "classes", "function"),
    [
        (None, 3, "softmax"),
        (None, 1, "sigmoid"),
        ("single_label_classification", 2, "softmax"),
        ("multi_label_classification", 3, "sigmoid"),
        ("regression", 1, "none"),
        ("regression", 3, "none"),
    ],
)
def test_a_config_decides_what_makes_scores(problem: str | None, classes: int, function: str) -> None:
    assert default_function(problem, classes) == function


def test_the_highest_scores_come_first_and_ties_keep_their_order() -> None:
    scores = np.array([0.5, 0.9, 0.5, 1.0, 0.9], dtype=np.float32)
    assert rank(scores).tolist() == [3, 1, 4, 0, 2]
    assert rank(scores, 2).tolist() == [3, 1] and rank(scores, 9).tolist() == [3, 1, 4, 0, 2]
    other = np.array([1.0, 2.0, 3.0, 0.0, 2.5], dtype=np.float32)
    assert rank(scores, None, other).tolist() == [3, 4, 1, 2, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(ExecutionError, match="not finite"):
        finite(np.array([[0.0, 1.0], [2.0, bad]], dtype=np.float32))


def test_large_finite_logits_are_no_error() -> None:
    logits = np.full((4, 4), LARGEST, dtype=np.float32)
    assert finite(logits) is logits


def test_classes_without_names_have_numbers() -> None:
    assert class_names(model_info(labels=None), 2) == ["LABEL_0", "LABEL_1"]
    assert class_names(model_info(labels=("a", "a")), 3) == ["a", "a", "LABEL_2"]
    assert class_names(model_info(labels=("a", "b", "c")), 2) == ["a", "b"]
