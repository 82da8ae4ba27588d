"""Logits of classifiers to scores, and their order: pure functions, which protocols call too."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import ExecutionError
from ridgeline_server.request import ModelInfo
from ridgeline_server.sequences import Float32Array

SOFTMAX, SIGMOID, NONE = FUNCTIONS = ("softmax", "sigmoid", "none")


def probabilities(logits: Float32Array, function: str) -> Float32Array:
    """Scores of logits, finite whatever finite logits they are given.

    logits:   [..., classes] float32, finite
    function: "softmax" over the last axis, "sigmoid" of each, or "none": as they are
    returns   shape of logits, float32
    Raises ValueError for another function.
    """
    if function == NONE:
        return logits
    # No exponent is above 0, so that none overflows; a difference of large logits that does is of no weight anyway.
    with np.errstate(over="ignore", under="ignore"):
        if function == SOFTMAX:
            exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
            shares: Float32Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
            return shares
        if function == SIGMOID:
            small = np.exp(-np.abs(logits))
            chances: Float32Array = np.where(logits >= 0, np.float32(1), small) / (1 + small)
            return chances
    raise ValueError(f"function '{function}' is unknown; allowed: {', '.join(FUNCTIONS)}")


def default_function(problem: str | None, classes: int) -> str:
    """What makes scores of a classifier's logits, as transformers' TextClassificationPipeline decides it.

    problem: see ModelInfo
    """
    if problem == "regression":
        return NONE
    return SIGMOID if problem == "multi_label_classification" or classes == 1 else SOFTMAX


def rank(
    scores: Float32Array, top_n: int | None = None, tie_breaker: Float32Array | None = None
) -> npt.NDArray[np.intp]:
    """Indices of the scores from the highest on; equal ones in the order of the tie breaker's, and then of the indices.

    scores, tie_breaker: [n] float32
    top_n:   how many, None = all
    returns  [min(n, top_n)]
    """
    order: npt.NDArray[np.intp] = np.lexsort((-scores,) if tie_breaker is None else (-tie_breaker, -scores))
    return order[:top_n]


def finite(values: Float32Array) -> Float32Array:
    """The values. Raises ExecutionError when one is not finite, which nothing can be made of and JSON cannot carry."""
    # In float64 no sum of float32 overflows: it is finite where every term is.
    if not math.isfinite(np.add.reduce(values, axis=None, dtype=np.float64)):
        raise ExecutionError("the model's answer to this input holds values that are not finite")
    return values


def class_names(model: ModelInfo, classes: int) -> list[str]:
    """Names of a model's classes by index, LABEL_i of those that its config does not name."""
    named = model.labels or ()
    return [*named[:classes], *(f"LABEL_{index}" for index in range(len(named), classes))]
