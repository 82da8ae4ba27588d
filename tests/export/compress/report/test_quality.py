"""Judging: a model against itself, against labels, as a graph, and where answers are worth nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ridgeline_export.answers import Outputs
from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.report.quality import Judge
from ridgeline_export.compress.report.subject import (
    Subject,
    answers_of,
    subject_of_model,
    subject_of_variant,
)
from ridgeline_export.compress.training import DataSettings
from ridgeline_export.load import load_model
from ridgeline_export.quiet import quiet
from ridgeline_export.source import Source
from ridgeline_export.tokenizer import Feed

SENTENCES = ("Reads {} bytes. The rest of text {} says more of it.", "A queue of {} tokens! It is number {}.")
TEXTS = tuple(SENTENCES[index % 2].format(index, index * 7) for index in range(60))


@pytest.fixture(scope="module")
def subject(tiny_models: Callable[..., Path]) -> Callable[[str, str], Subject]:
    """A function that gives a tiny model in PyTorch, loaded once."""
    loaded: dict[tuple[str, str], Subject] = {}

    def found(name: str, task: str) -> Subject:
        if (name, task) not in loaded:
            with quiet():
                loaded[name, task] = subject_of_model(load_model(Source(tiny_models(name, task), name)))
        return loaded[name, task]

    return found


def data_of(labels: list[Any] | None = None, texts: Any = TEXTS) -> Data:
    examples = tuple(Example(text, labels[index] if labels else None) for index, text in enumerate(texts))
    return Data("texts", (), DataSettings(), held_out=examples)


def altered(subject: Subject, change: Callable[[np.ndarray], np.ndarray]) -> Subject:
    """The same model with other outputs."""

    def run(feed: Feed) -> Outputs:
        return {name: change(array) for name, array in subject.model(feed).items()}

    return dataclasses.replace(subject, model=run)


def names_of(subject: Subject, data: Data) -> dict[str, str]:
    """The model's own answer to each text."""
    texts = [str(example.text) for example in data.quality]
    labels = subject.labels or ()
    return {text: labels[int(row.argmax())] for text, row in zip(texts, answers_of(subject, texts), strict=True)}


def test_a_model_is_as_good_as_itself_and_one_of_one_vector_finds_nothing(
    subject: Callable[[str, str], Subject],
) -> None:
    bert = subject("bert", "feature-extraction")
    judge = Judge(data_of(), bert)
    assert judge.searches == len(TEXTS)
    reference = judge.reference(bert)
    same = judge.judge(bert, reference)
    assert (same.metric, same.texts) == ("spearman", len(TEXTS))
    assert same.figures["spearman"] == pytest.approx(1)
    assert same.figures["mean_cosine"] == pytest.approx(1)
    assert same.figures["neighbour_recall_10"] == 1
    assert 0 < same.figures["retrieval_recall_10"] <= 1
    constant = judge.judge(altered(bert, np.ones_like), reference)
    assert constant.figures["retrieval_recall_10"] == 0
    narrower = judge.judge(altered(bert, lambda array: array[..., :8]), reference)
    assert "mean_cosine" not in narrower.figures
    assert narrower.figures["spearman"] < 1
    alone = judge.judge(bert, None)
    assert (alone.metric, list(alone.figures)) == ("retrieval_recall_10", ["retrieval_recall_10"])
    broken = judge.judge(altered(bert, lambda array: array * np.float32(np.nan)), reference)
    assert math.isnan(broken.value)
    assert math.isnan(broken.figures["retrieval_recall_10"])


def test_a_bundles_variant_answers_as_pytorch_does(tiny_exports: Callable[..., Any], tiny_models: Any) -> None:
    bundle = tiny_exports("bert", "feature-extraction").bundle
    with quiet():
        model = subject_of_model(load_model(Source(tiny_models("bert", "feature-extraction"), "bert")))
    variant = subject_of_variant(bundle, "fp32")
    assert (variant.task, variant.pooling, variant.labels) == (model.task, model.pooling, model.labels)
    assert variant.encoder.mask_token_id == model.encoder.mask_token_id
    for given, expected in zip(answers_of(variant, TEXTS[:9]), answers_of(model, TEXTS[:9]), strict=True):
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_classes_are_held_against_labels_and_the_original(subject: Callable[[str, str], Subject]) -> None:
    bert = subject("bert", "text-classification")
    own = names_of(bert, data_of())
    data = data_of([own[text] for text in TEXTS])
    judge = Judge(data, bert)
    reference = judge.reference(bert)
    right = judge.judge(bert, reference)
    assert right.metric == "accuracy"
    assert right.figures == {"accuracy": 1.0, "macro_f1": 1.0, "agreement": 1.0}
    wrong = judge.judge(altered(bert, lambda array: np.roll(array, 1, axis=-1)), reference)
    assert wrong.figures == {"accuracy": 0.0, "macro_f1": 0.0, "agreement": 0.0}
    # The same classes in another order are the same answers.
    renamed = dataclasses.replace(
        altered(bert, lambda array: array[..., ::-1]), labels=tuple(reversed(bert.labels or ()))
    )
    assert judge.judge(renamed, reference).figures["agreement"] == 1
    broken = judge.judge(altered(bert, lambda array: array * np.float32(np.nan)), reference)
    assert broken.value == 0
    assert math.isnan(broken.figures["agreement"])
    other = Judge(data_of(["cold"] * len(TEXTS)), bert)
    assert list(other.judge(bert, other.reference(bert)).figures) == ["agreement"]
    assert math.isnan(other.judge(bert, None).value)


def test_macro_f1_is_the_mean_over_the_classes(subject: Callable[[str, str], Subject]) -> None:
    bert = subject("bert", "text-classification")
    always = altered(bert, lambda array: np.stack([np.ones(len(array)), *[np.zeros(len(array))] * 2], 1))
    labels = ["calm"] * 15 + ["glad"] * 45
    judged = Judge(data_of(labels), bert).judge(always, None)
    assert judged.figures == {"accuracy": 0.25, "macro_f1": pytest.approx((2 * 15 / (15 + 60) + 0) / 2)}


def test_scores_are_held_against_numbers(subject: Callable[[str, str], Subject]) -> None:
    bert = subject("bert", "text-classification")
    scorer = dataclasses.replace(altered(bert, lambda array: array[:, :1]), labels=("LABEL_0",))
    scores = {text: float(row[0]) for text, row in zip(TEXTS, answers_of(scorer, TEXTS), strict=True)}
    judge = Judge(data_of([scores[text] for text in TEXTS]), scorer)
    reference = judge.reference(scorer)
    upside_down = judge.judge(altered(scorer, lambda array: -array), reference)
    assert upside_down.metric == "label_spearman"
    assert upside_down.figures == {"score_spearman": pytest.approx(-1), "label_spearman": pytest.approx(-1)}
    unlabelled = Judge(data_of(), scorer)
    assert all(isinstance(text, tuple) for text in unlabelled.texts)  # as a reranker is asked


@pytest.mark.parametrize(
    ("name", "task"), [("roberta", "fill-mask"), ("electra", "token-classification"), ("mpnet", "question-answering")]
)
def test_other_tasks_agree_by_their_decisions(subject: Callable[[str, str], Subject], name: str, task: str) -> None:
    model = subject(name, task)
    judge = Judge(data_of(), model)
    reference = judge.reference(model)
    assert judge.judge(model, reference).figures == {"agreement": 1.0}
    broken = judge.judge(altered(model, lambda array: array * np.float32(np.nan)), reference)
    assert broken.value == 0
    assert judge.judge(altered(model, lambda array: -array), reference).value < 0.9


def test_answers_come_in_the_order_of_the_texts(subject: Callable[[str, str], Subject]) -> None:
    bert = subject("bert", "feature-extraction")
    texts = [" ".join(TEXTS[: 1 + index * 7 % 5]) for index in range(20)]
    lengths: list[int] = []

    def run(feed: Feed) -> Outputs:
        lengths.append(feed["input_ids"].shape[1])
        return bert.model(feed)

    alone = [answers_of(bert, [text])[0] for text in texts]
    for is_invariant in (True, False):
        lengths.clear()
        asked = dataclasses.replace(bert, model=run, is_batch_invariant=is_invariant)
        np.testing.assert_allclose(np.stack(answers_of(asked, texts)), np.stack(alone), atol=1e-5)
        assert (lengths == sorted(lengths) and len(set(lengths)) > 1) == is_invariant
