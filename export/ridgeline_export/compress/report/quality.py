"""How good a model's answers are: to a reference's, to labels, and at a search task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.compress.data.data import Data, Example, Text, key_of
from ridgeline_export.compress.report.retrieval import make_search, recall
from ridgeline_export.compress.report.subject import Subject, answers_of, can_be_asked
from ridgeline_export.errors import UsageError
from ridgeline_export.metrics import neighbour_recall, pairwise, spearman
from ridgeline_export.verify import Asked, questions

Answers = list[NDArray[Any]]
# What each figure is, for captions.
MEANINGS = {
    "spearman": "rank correlation of all pairs' similarities to the original's",
    "mean_cosine": "mean cosine of embeddings to the original's",
    "neighbour_recall_10": "share of the original's ten nearest texts that are among the ten nearest",
    "retrieval_recall_10": "share of first sentences whose text's rest is among the ten nearest",
    "accuracy": "share of labels that are right",
    "macro_f1": "F1 score, mean over the classes",
    "agreement": "share of answers equal to the original's",
    "score_spearman": "rank correlation of scores to the original's",
    "label_spearman": "rank correlation of scores to the labels",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A model's quality.

    metric:  name of the figure that stands for all in plots and tables
    figures: all, by name, see MEANINGS; NaN where answers are not finite
    texts:   how many were asked
    """

    metric: str
    figures: Mapping[str, float]
    texts: int

    @property
    def value(self) -> float:
        return self.figures[self.metric]


@dataclass(frozen=True, slots=True)
class Reference:
    """What others are compared with: the original and its answers to a judge's texts."""

    subject: Subject
    answers: Answers


class Judge:
    """The texts that models are asked, the same for all."""

    def __init__(self, data: Data, model: Asked) -> None:
        """data: its quality split is asked; model: one of those to judge."""
        examples = data.quality
        if model.task == "feature-extraction":
            self._texts: list[Text] = list(dict.fromkeys(key_of(example.text) for example in examples))
        elif any(isinstance(example.text, tuple) or example.label is not None for example in examples):
            self._texts = [example.text for example in examples]
        else:
            self._texts = list(questions(model, [str(example.text) for example in examples]))
        self._examples: Sequence[Example] = examples
        self._search = make_search([str(text) for text in self._texts]) if model.task == "feature-extraction" else None
        if not self._texts:
            raise UsageError(f"{data.name} has no texts to judge on; give more, or --held-out")

    @property
    def texts(self) -> tuple[Text, ...]:
        """What is asked."""
        return tuple(self._texts)

    @property
    def searches(self) -> int:
        """Queries of the search task, and documents."""
        return 0 if self._search is None else len(self._search.queries)

    def reference(self, subject: Subject) -> Reference:
        """Ask the original."""
        if subject.task == "fill-mask":
            self._leave_out_empty(subject)
        return Reference(subject, answers_of(subject, self._texts))

    def judge(self, subject: Subject, reference: Reference | None) -> Judged:
        """Ask a model. reference: None for one whose answers nothing is comparable with."""
        if reference is not None and subject is reference.subject:
            given = reference.answers
        else:
            given = answers_of(subject, self._texts)
        if subject.task == "feature-extraction":
            figures = self._of_embeddings(subject, given, reference)
            return _judged(figures, ("spearman", "retrieval_recall_10"), len(given))
        if subject.task == "text-classification":
            figures = self._of_classes(subject, given, reference)
            names = ("accuracy", "label_spearman", "agreement", "score_spearman")
            return _judged(figures, names, len(given))
        figures = {} if reference is None else {"agreement": _same(reference.answers, given)}
        return _judged(figures, ("agreement",), len(given))

    def _leave_out_empty(self, subject: Subject) -> None:
        self._texts = [text for text in self._texts if can_be_asked(subject, text)]

    def _of_embeddings(self, subject: Subject, given: Answers, reference: Reference | None) -> dict[str, float]:
        vectors = np.stack(given)
        figures: dict[str, float] = {}
        if reference is not None:
            expected = np.stack(reference.answers)
            figures["spearman"] = spearman(pairwise(expected), pairwise(vectors)) if _is_sound(vectors) else math.nan
            figures["neighbour_recall_10"] = neighbour_recall(expected, vectors)
            if expected.shape == vectors.shape:
                figures["mean_cosine"] = float((expected * vectors).sum(axis=1).mean())
        if self._search is not None and self._search.queries:
            asked = np.stack(answers_of(subject, [*self._search.queries, *self._search.documents]))
            middle = len(self._search.queries)
            figures["retrieval_recall_10"] = recall(asked[:middle], asked[middle:])
        return figures

    def _of_classes(self, subject: Subject, given: Answers, reference: Reference | None) -> dict[str, float]:
        logits = np.stack(given)
        figures: dict[str, float] = {}
        if subject.is_score:
            if reference is not None and reference.subject.is_score:
                figures["score_spearman"] = _correlation(np.stack(reference.answers)[:, 0], logits[:, 0])
            numbers = [example.label for example in self._examples]
            if all(isinstance(number, float) for number in numbers):
                figures["label_spearman"] = _correlation(np.array(numbers, dtype=np.float64), logits[:, 0])
            return figures
        if not subject.is_multi_label:
            figures |= _to_labels(_names(subject, logits), [example.label for example in self._examples], subject)
        if reference is not None and set(reference.subject.labels or ()) == set(subject.labels or ()):
            expected = np.stack(reference.answers)
            if subject.is_multi_label:
                order = [(reference.subject.labels or ()).index(name) for name in subject.labels or ()]
                same = (expected[:, order] > 0) == (logits > 0)
                figures["agreement"] = float(same.mean()) if _is_sound(logits) else math.nan
            else:
                pairs = zip(_names(reference.subject, expected), _names(subject, logits), strict=True)
                figures["agreement"] = _share(a == b for a, b in pairs) if _is_sound(logits) else math.nan
        return figures


def _judged(figures: dict[str, float], names: Sequence[str], texts: int) -> Judged:
    """The first figure that there is stands for all."""
    metric = next((name for name in names if name in figures), names[0])
    return Judged(metric, figures or {metric: math.nan}, texts)


def _to_labels(given: Sequence[str], labels: Sequence[str | float | None], subject: Subject) -> dict[str, float]:
    """Accuracy and macro F1; nothing for data whose labels are not the model's."""
    known = set(subject.labels or ())
    pairs = [(str(label), name) for label, name in zip(labels, given, strict=True) if label in known]
    if not pairs or len(pairs) < sum(label is not None for label in labels):
        return {}
    scores = []
    for name in sorted({label for label, _ in pairs}):
        hits = sum(label == answer == name for label, answer in pairs)
        scores.append(
            2 * hits / (sum(label == name for label, _ in pairs) + sum(answer == name for _, answer in pairs))
        )
    return {"accuracy": _share(label == answer for label, answer in pairs), "macro_f1": float(np.mean(scores))}


def _names(subject: Subject, logits: NDArray[Any]) -> list[str]:
    """The likeliest class of each row; of one that is not finite none."""
    names = subject.labels or tuple(str(index) for index in range(logits.shape[1]))
    return [names[int(row.argmax())] if np.isfinite(row).all() else "" for row in logits]


def _same(expected: Answers, given: Answers) -> float:
    """Share of decisions that are the same; where a text is cut into other tokens, those of the longer count."""
    same = sum(int((a[: len(b)] == b[: len(a)]).sum()) for a, b in zip(expected, given, strict=True))
    return same / max(1, sum(max(len(a), len(b)) for a, b in zip(expected, given, strict=True)))


def _correlation(expected: NDArray[Any], given: NDArray[Any]) -> float:
    return spearman(expected.astype(np.float64), given.astype(np.float64)) if _is_sound(given) else math.nan


def _is_sound(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all())


def _share(holds: Any) -> float:
    return float(np.mean([bool(each) for each in holds]))
