"""`compress recover` from a model directory to another."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.data.data import Example
from ridgeline_export.compress.method import Outcome
from ridgeline_export.compress.prune.structured import Structured
from ridgeline_export.compress.prune.unstructured import Unstructured
from ridgeline_export.compress.recover.dropout import dropout_of
from ridgeline_export.compress.recover.recover import Recover
from ridgeline_export.compress.recover.tokens import Tokens, tokenize
from ridgeline_export.compress.run import Request, compress
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import UsageError
from ridgeline_export.load import load_model
from ridgeline_export.source import find_model
from tests.export.compress.recover.toy import labelled, load
from tests.models import add_sentence_modules, write_model

TRAINING: dict[str, Any] = {"batch_texts": 24, "learning_rate": 3e-3, "precision": "fp32", "max_tokens": 32}


@pytest.fixture(scope="module")
def embedding_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_sentence_modules(write_model(tmp_path_factory.mktemp("model") / "embeds", "bert"), "mean", False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DataSettings]:
    """Settings of a file with classes, numbers, pairs or texts alone."""
    directory = tmp_path_factory.mktemp("data")

    def made(kind: str) -> DataSettings:
        rows = []
        for number, example in enumerate(labelled(200)):
            row: dict[str, Any] = {"text": f"{example.text} {number}"}
            if kind == "numbers":
                row["label"] = {"calm": -1.5, "glad": 0.5, "sad": 2.5}[str(example.label)]
            elif kind != "texts":
                row["label"] = "calm" if kind == "one class" else example.label
            if kind == "pairs":
                row["text_pair"] = "another text"
            rows.append(row)
        path = directory / f"{kind.replace(' ', '-')}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return DataSettings(data=str(path), quality_texts=32)

    return made


def recover(model: Path, out: Path, data: DataSettings, task: str | None = None, **settings: Any) -> Outcome:
    training = Training(**{**TRAINING, "epochs": 12.0, **settings.pop("training", {})})
    return compress(Request(Recover(training=training, **settings), str(model), out, data, task))


@pytest.mark.parametrize("kind", ["classes", "pairs"])
def test_an_embedding_model_becomes_a_classifier(
    embedding_model: Path, data: Callable[[str], DataSettings], tmp_path: Path, kind: str
) -> None:
    outcome = recover(embedding_model, tmp_path / "out", data(kind), "text-classification")

    made = load(tmp_path / "out")
    assert made.task == "text-classification" and made.labels == ("calm", "glad", "sad") and made.new_weights == ()
    assert outcome.figures["towards"] == "labels" and outcome.figures["best"]["accuracy"] > 0.8
    assert "towards their labels: accuracy" in outcome.summary
    assert not (tmp_path / "out" / "modules.json").exists() and not (tmp_path / ".out.run").exists()


def test_the_same_seed_makes_the_same_model(
    embedding_model: Path, data: Callable[[str], DataSettings], tmp_path: Path
) -> None:
    weights = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        torch.manual_seed(number)
        recover(embedding_model, out, data("classes"), "text-classification", training={"max_steps": 2, "seed": seed})
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_numbers_are_regressed_to(embedding_model: Path, data: Callable[[str], DataSettings], tmp_path: Path) -> None:
    outcome = recover(embedding_model, tmp_path / "out", data("numbers"), "text-classification")

    made = load(tmp_path / "out")
    assert made.labels == ("value",) and made.model.config.problem_type == "regression"
    assert outcome.figures["best"]["r2"] > 0.6


def test_a_fill_mask_model_learns_plain_text(
    tiny_models: Callable[..., Path], data: Callable[[str], DataSettings], tmp_path: Path
) -> None:
    outcome = recover(tiny_models("distilbert", "fill-mask"), tmp_path / "out", data("texts"), training={"epochs": 3.0})

    history = outcome.figures["history"]
    assert outcome.figures["towards"] == "masks" and history[-1]["log_likelihood"] > history[0]["log_likelihood"]
    assert load(tmp_path / "out").task == "fill-mask"


@pytest.mark.parametrize("method", ["recover", "prune", "importance"])
def test_question_answering_is_trained_and_asked_in_pairs(
    tiny_models: Callable[..., Path],
    data: Callable[[str], DataSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    model, seen = tiny_models("bert", "question-answering"), []

    def noted(encoder: Any, examples: Sequence[Example], *others: Any) -> Tokens:
        seen.extend(example.text for example in examples)
        return tokenize(encoder, examples, *others)

    for module in ("recover.loop", "prune.answers", "distill.objective", "distill.evaluation"):
        monkeypatch.setattr(f"ridgeline_export.compress.{module}.tokenize", noted)
    training = Training(**TRAINING, max_steps=1)
    config = {
        "recover": Recover(teacher=str(model), training=training),
        "prune": Unstructured(training=training),
        "importance": Structured(keep_heads=0.5, recover=False),
    }[method]
    compress(Request(config, str(model), tmp_path / "out", data("texts")))
    assert seen and all(isinstance(text, tuple) for text in seen)


@pytest.mark.parametrize(("dropout", "seen"), [(None, 0.0), (0.2, 0.2)])
def test_a_teachers_answers_are_learned_without_dropout(
    embedding_model: Path,
    data: Callable[[str], DataSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dropout: float | None,
    seen: float,
) -> None:
    given: list[float | None] = []

    def noted(model: Any, share: float | None) -> Any:
        given.append(share)
        return dropout_of(model, share)

    monkeypatch.setattr("ridgeline_export.compress.recover.fit.dropout_of", noted)
    training = {"max_steps": 1, "dropout": dropout}
    recover(embedding_model, tmp_path / "out", data("texts"), teacher=str(embedding_model), training=training)
    assert given == [seen]


def test_findings_lie_beside_the_model_where_no_report_goes(
    tiny_models: Callable[..., Path], data: Callable[[str], DataSettings], tmp_path: Path
) -> None:
    model, training = tiny_models("bert", "text-classification"), {"max_steps": 1}
    recover(model, tmp_path / "out", data("classes"), find=True, find_trials=1, find_steps=10, training=training)
    assert (tmp_path / "out" / "find" / "find.md").is_file() and not (tmp_path / "out" / "report").exists()

    recover(tmp_path / "out", tmp_path / "again", data("classes"), training=training)
    assert not (tmp_path / "again" / "find").exists()


@pytest.mark.parametrize(
    ("kind", "task", "settings", "sentence"),
    [
        (
            "texts",
            None,
            {},
            "nothing to train a model for feature-extraction towards: give a --teacher, or --data with",
        ),
        ("classes", None, {}, "give --task text-classification, a --teacher"),
        ("texts", None, {"towards": "teacher"}, "--towards teacher needs --teacher"),
        ("texts", None, {"towards": "labels"}, "--towards labels needs --data with labels; texts.jsonl has none"),
        ("classes", None, {"towards": "labels"}, "--towards labels trains classifiers"),
        ("classes", None, {"towards": "masks"}, "--towards masks trains fill-mask models"),
        ("one class", "text-classification", {}, "have the label 'calm'; give at least two classes"),
    ],
)
def test_what_cannot_be_trained_towards_is_a_sentence(
    embedding_model: Path,
    data: Callable[[str], DataSettings],
    tmp_path: Path,
    kind: str,
    task: str | None,
    settings: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(UsageError, match=sentence):
        recover(embedding_model, tmp_path / "out", data(kind), task, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_pooler_that_embeddings_never_used_is_new_too(embedding_model: Path) -> None:
    source = find_model(str(embedding_model))
    made = load_model(source, "text-classification", new_labels=("a", "b"))

    assert set(made.new_weights) == {
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }
    assert load_model(source).new_weights == ()
