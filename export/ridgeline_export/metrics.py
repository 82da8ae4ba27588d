"""Figures that compare a variant's answers with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.answers import Array
from ridgeline_export.load import LoadedModel

Decide = Callable[[Array], NDArray[np.generic]]


def compare(
    loaded: LoadedModel, expected: Sequence[Array], given: Sequence[Array], vectors: Array | None = None
) -> tuple[str, dict[str, float]]:
    """The name of the figure that a gate judges, and all figures by name; NaN where an answer is not finite.

    expected, given: an array [rows, values] a text, see answers.answers
    vectors:         [texts, dim] of a model that pools by itself; None to pool what is given
    """
    figures = {
        "max_abs_error": max(_largest_difference(a, b) for a, b in zip(expected, given, strict=True)),
        "output_scale": max(float(np.abs(rows).max(initial=0.0)) for rows in expected),
    }
    if loaded.task == "feature-extraction":
        pooling = loaded.modules.pooling if loaded.modules else "mean"
        return "mean_cosine", figures | _embedding_figures(
            pool(expected, pooling), pool(given, pooling) if vectors is None else vectors.astype(np.float64)
        )
    figures["largest_logit_difference"] = figures["max_abs_error"]
    if loaded.labels is not None and len(loaded.labels) == 1 and loaded.task == "text-classification":
        return "order_agreement", figures | {"order_agreement": _order_agreement(expected, given)}
    is_multi_label = getattr(loaded.model.config, "problem_type", None) == "multi_label_classification"
    decide = _signs if is_multi_label and loaded.task == "text-classification" else _DECISIONS[loaded.task]
    return "label_agreement", figures | {"label_agreement": _agreement(decide, expected, given)}


def pool(rows: Sequence[Array], pooling: str) -> NDArray[np.float64]:
    """Sentence embeddings [texts, dim] of token states [tokens, dim] each, without padding."""
    if pooling == "mean":
        return np.stack([row.mean(axis=0, dtype=np.float64) for row in rows])
    if pooling == "max":
        return np.stack([row.max(axis=0).astype(np.float64) for row in rows])
    return np.stack([row[0 if pooling == "cls" else -1].astype(np.float64) for row in rows])


def _largest_difference(expected: Array, given: Array) -> float:
    return float(np.abs(expected - given).max()) if expected.size else 0.0


def _embedding_figures(expected: NDArray[np.float64], given: NDArray[np.float64]) -> dict[str, float]:
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (expected, given))
    cosines = (a * b).sum(axis=1)
    return {
        "mean_cosine": float(cosines.mean()),
        "cosine_min": float(cosines.min()),
        "spearman": spearman(pairwise(a), pairwise(b)),
        "embedding_max_abs_error": float(np.abs(a - b).max()),
    }


def pairwise(unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarities of all pairs [texts · (texts - 1) / 2] of embeddings [texts, dim] of unit length."""
    return (unit @ unit.T)[np.triu_indices(len(unit), k=1)]


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Rank correlation of two lists of numbers, equal ones at the middle of their ranks.

    NaN for fewer than two, for a list of equal numbers, and where one is not a number
    """
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    x, y = (ranks - (len(ranks) + 1) / 2 for ranks in (_ranks(a), _ranks(b)))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / scale, -1.0, 1.0)) if scale > 0 else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])


def neighbour_recall(expected: NDArray[np.float64], given: NDArray[np.float64], neighbours: int = 10) -> float:
    """Share of each text's nearest texts by one model's embeddings that are among its nearest by another's.

    expected, given: [texts, dim] each, of unit length; the widths may differ
    NaN for fewer than two texts, or where an embedding is not finite
    """
    count = min(neighbours, len(expected) - 1)
    if count < 1 or not (np.isfinite(expected).all() and np.isfinite(given).all()):
        return float("nan")
    a, b = (_nearest(unit, count) for unit in (expected, given))
    return float(np.mean([len(np.intersect1d(x, y)) / count for x, y in zip(a, b, strict=True)]))


def _nearest(unit: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    similarities = unit @ unit.T
    np.fill_diagonal(similarities, -np.inf)
    return np.argsort(-similarities, axis=1, kind="stable")[:, :count]


def _agreement(decide: Decide, expected: Sequence[Array], given: Sequence[Array]) -> float:
    same = np.concatenate([np.ravel(decide(a) == decide(b)) for a, b in zip(expected, given, strict=True)])
    is_finite = all(np.isfinite(row).all() for row in given)
    return float(same.mean()) if is_finite else float("nan")


def _order_agreement(expected: Sequence[Array], given: Sequence[Array]) -> float:
    """Share of pairs of texts that both models put in the same order, for models that give one score."""
    a, b = (np.concatenate(list(rows))[:, 0].astype(np.float64) for rows in (expected, given))
    left, right = np.triu_indices(len(a), k=1)
    if not np.isfinite(b).all():
        return float("nan")
    return float((np.sign(a[left] - a[right]) == np.sign(b[left] - b[right])).mean())


def _labels(rows: Array) -> NDArray[np.intp]:
    return np.asarray(rows.argmax(axis=-1))


def _signs(rows: Array) -> NDArray[np.bool_]:
    return rows > 0


def _span(rows: Array) -> NDArray[np.bool_]:
    """Start and end of the best answer as one decision."""
    start, end = rows.argmax(axis=0)
    return np.array([start * len(rows) + end])


_DECISIONS: dict[str, Decide] = {
    "text-classification": _labels,
    "token-classification": _labels,
    "question-answering": _span,
    "fill-mask": _labels,
}
