from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.compress.distill.examples import training_examples
from ridgeline_export.compress.distill.losses import Losses
from ridgeline_export.compress.distill.objective import Distillation, make_objective
from ridgeline_export.compress.distill.teacher import CachedTeacher, LiveTeacher
from ridgeline_export.compress.progress import Silent
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.training import DataSettings, Training
from ridgeline_export.errors import UsageError
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model

TRAINING = Training(precision="fp32", max_tokens=24)
EVERYTHING = Losses(hidden_loss=1.0, attention_loss=1.0, relation_loss=1.0)


@pytest.fixture(scope="module")
def data(texts_file: Path) -> Data:
    texts = texts_file.read_text(encoding="utf-8").splitlines()
    return Data("texts", tuple(Example(text) for text in texts), DataSettings())


@pytest.fixture
def load(tiny_models: Callable[[str, str], Path]) -> Callable[..., LoadedModel]:
    def loaded(name: str, task: str = "feature-extraction") -> LoadedModel:
        return load_model(find_model(str(tiny_models(name, task))), task)

    return loaded


def twin(loaded: LoadedModel, noise: float = 0.0) -> LoadedModel:
    model = copy.deepcopy(loaded.model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter) * parameter.std(unbiased=False))
    return dataclasses.replace(loaded, model=model)


def make(
    teacher: LoadedModel, student: LoadedModel, losses: Losses, data: Data, directory: Path, **settings: Any
) -> Distillation:
    training = dataclasses.replace(TRAINING, **settings)
    return make_objective(teacher, student, losses, data, training, directory, Silent())


def loss_of(objective: Distillation, loaded: LoadedModel, data: Data, texts: int = 8) -> torch.Tensor:
    tokens = tokenize(loaded.encoder, data.training, TRAINING.max_tokens)
    torch.manual_seed(0)
    return objective.loss(loaded.model, tokens.batch(range(texts)))


@pytest.mark.parametrize(
    ("name", "task", "losses", "kind"),
    [
        ("bert", "feature-extraction", Losses(neighbour_loss=1.0, hidden_loss=1.0), CachedTeacher),
        ("bert", "feature-extraction", Losses(relation_loss=1.0), CachedTeacher),
        ("bert", "feature-extraction", Losses(teacher_cache_gb=0.0), LiveTeacher),
        ("modernbert", "feature-extraction", EVERYTHING, LiveTeacher),
        ("albert", "text-classification", EVERYTHING, LiveTeacher),
        ("bert", "text-classification", Losses(), CachedTeacher),
        ("bert", "token-classification", Losses(hidden_loss=1.0), CachedTeacher),
        ("bert", "question-answering", Losses(), CachedTeacher),
        ("bert", "fill-mask", EVERYTHING, LiveTeacher),
        ("mpnet", "feature-extraction", Losses(hidden_loss=1.0), CachedTeacher),
    ],
)
def test_a_student_that_is_its_teacher_loses_nothing(
    load: Callable[..., LoadedModel], data: Data, tmp_path: Path, name: str, task: str, losses: Losses, kind: type
) -> None:
    teacher = load(name, task)
    objective = make(teacher, twin(teacher), losses, data, tmp_path)
    assert isinstance(objective.teacher, kind)
    assert objective.modules is None
    # What is cached of the layers is bf16.
    assert loss_of(objective, twin(teacher), data).item() == pytest.approx(0.0, abs=1e-4)
    judgement = objective.evaluate(teacher.model)
    assert judgement.figure == pytest.approx(1.0) == judgement.figures[judgement.name]
    other = twin(teacher, noise=0.5)
    loss = loss_of(objective, other, data)
    loss.backward()
    assert loss.item() > 1e-3
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in other.model.parameters())
    assert sum(parameter.grad is not None for parameter in other.model.parameters()) > 10
    # Three classes of random logits may be the same all the same.
    assert objective.evaluate(other.model).figure < 1.0 or task == "text-classification"
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_the_teacher_says_the_same_from_disk_and_live(
    load: Callable[..., LoadedModel], data: Data, tmp_path: Path
) -> None:
    teacher = load("bert", "token-classification")
    losses = Losses(hidden_loss=1.0, relation_loss=1.0)
    other = twin(teacher, noise=0.5)
    cached = make(teacher, other, losses, data, tmp_path)
    live = make(teacher, other, dataclasses.replace(losses, teacher_cache_gb=0.0), data, tmp_path)
    assert isinstance(cached.teacher, CachedTeacher) and isinstance(live.teacher, LiveTeacher)
    assert loss_of(cached, other, data).item() == pytest.approx(loss_of(live, other, data).item(), rel=1e-3)


def test_labels_are_learned_where_texts_have_one(load: Callable[..., LoadedModel], data: Data, tmp_path: Path) -> None:
    teacher = load("bert", "text-classification")
    names = ("calm", "glad", "sad")
    examples = [Example(each.text, names[at % 3] if at % 4 else None) for at, each in enumerate(data.training)]
    labelled = Data("labelled", tuple(Example(each.text, "glad") for each in data.examples), DataSettings())
    objective = make_objective(
        teacher, twin(teacher), Losses(label_loss=2.0), labelled, TRAINING, tmp_path, Silent(), examples=examples
    )
    student = twin(teacher)
    tokens = tokenize(student.encoder, examples, TRAINING.max_tokens)
    loss = objective.loss(student.model, tokens.batch(range(8)))
    with torch.no_grad():
        logits = student.model(**tokens.batch(range(8)).inputs).logits
    right = [-float(logits[at].log_softmax(0)[at % 3]) for at in range(8) if at % 4]
    assert loss.item() == pytest.approx(2 * sum(right) / len(right), rel=1e-4)
    judgement = objective.evaluate(student.model)
    assert judgement.name == "accuracy" and judgement.figures["label_agreement"] == 1.0


def test_labels_of_another_task_are_not_learned(load: Callable[..., LoadedModel], data: Data, tmp_path: Path) -> None:
    teacher = load("bert", "text-classification")
    labelled = Data("labelled", tuple(Example(each.text, "blue") for each in data.examples), DataSettings())
    assert make(teacher, twin(teacher), Losses(), labelled, tmp_path).weights.label == 0
    with pytest.raises(UsageError, match="have no labels that this model"):
        make(teacher, twin(teacher), Losses(label_loss=1.0), labelled, tmp_path)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_independent_labels_and_scores(load: Callable[..., LoadedModel], data: Data, tmp_path: Path, kind: str) -> None:
    from tests.models import write_model

    fields = {"id2label": {0: "score"}, "label2id": {"score": 0}} if kind == "regression" else {"problem_type": kind}
    teacher = load_model(find_model(str(write_model(tmp_path / "model", "bert", "text-classification", **fields))))
    other = twin(teacher, noise=0.5)
    objective = make(teacher, other, Losses(), data, tmp_path)
    assert loss_of(objective, twin(teacher), data).item() == pytest.approx(0.0, abs=1e-6)
    tokens = tokenize(other.encoder, data.training, TRAINING.max_tokens)
    with torch.no_grad():
        a, b = (each.model(**tokens.batch(range(8)).inputs).logits for each in (other, teacher))
    if kind == "regression":
        expected = float(((a - b) ** 2).mean())
        assert objective.evaluate(other.model).name == "order_agreement"
    else:
        p, q = (b / 2).sigmoid(), (a / 2).sigmoid()
        expected = 4 * float((p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean())
    assert loss_of(objective, other, data).item() == pytest.approx(expected, rel=1e-3)


def test_other_processes_get_it_whole(load: Callable[..., LoadedModel], data: Data, tmp_path: Path) -> None:
    teacher = load("bert")
    other = twin(teacher, noise=0.5)
    for losses in (Losses(), EVERYTHING):
        objective = make(teacher, other, losses, data, tmp_path)
        again = pickle.loads(pickle.dumps(objective))
        assert torch.equal(loss_of(again, other, data), loss_of(objective, other, data))
        assert again.evaluate(other.model) == objective.evaluate(other.model)


def test_under_bf16_the_loss_is_fp32(load: Callable[..., LoadedModel], data: Data, tmp_path: Path) -> None:
    teacher = load("bert")
    objective = make(teacher, twin(teacher), EVERYTHING, data, tmp_path, precision="bf16")
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(objective, twin(teacher), data)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("losses", "sentence"),
    [
        (Losses(relation_loss=1.0, relation_heads=5), "relation_heads is 5.*give a divisor of 32"),
        (Losses(relation_loss=1.0, relation_layer=2), "relation_layer names layer 2, but the teacher has 2 layers"),
        (Losses(hidden_loss=1.0, teacher_layers=(0,)), "names 1 layers, but the student has 2"),
    ],
)
def test_losses_that_do_not_fit_the_models(
    load: Callable[..., LoadedModel], data: Data, tmp_path: Path, losses: Losses, sentence: str
) -> None:
    teacher = load("bert")
    with pytest.raises(UsageError, match=sentence):
        make(teacher, twin(teacher), losses, data, tmp_path)


def test_too_little_text(load: Callable[..., LoadedModel], data: Data, tmp_path: Path) -> None:
    teacher = load("bert")
    few = Data("few", data.examples[:30], DataSettings())
    with pytest.raises(UsageError, match=r"has \d+ validation texts; judging a student needs at least 16"):
        make(teacher, twin(teacher), Losses(), few, tmp_path)


def test_of_long_texts_some_are_enough(
    load: Callable[..., LoadedModel], data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ridgeline_export.compress.distill.evaluation.MOST_TOKENS", 500)
    teacher = load("bert")
    evaluation = make(teacher, twin(teacher), Losses(), data, tmp_path).evaluation

    assert 16 <= len(evaluation.tokens) == len(evaluation.expected) < len(data.validation)
    assert evaluation.tokens.offsets[-1] <= 500


def test_pieces_are_sentences_that_are_no_text_of_the_data(load: Callable[..., LoadedModel]) -> None:
    text = "One two three. Four five six!\n\nSeven eight nine\nten. Ha."
    examples = [Example(text), *(Example(f"Text number {number} of them.") for number in range(40))]
    data = Data("pieces", tuple(examples), DataSettings())
    data.__dict__["training"] = (Example(text, "glad"), Example("Text number 1 of them. Four five six again."))
    loaded = load("bert")
    assert training_examples(loaded, data) == data.training
    found = training_examples(loaded, data, pieces=9)
    assert found[:2] == data.training and all(each.label is None for each in found[2:])
    texts = {str(each.text) for each in found[2:]}
    assert texts == {
        "One two three.", "Four five six!", "Seven eight nine ten.", "One two three. Four five six!",
        "Four five six! Seven eight nine ten.", "Four five six again.",
    }  # fmt: skip
    assert set(training_examples(loaded, data, pieces=1)[2:]) < set(found[2:])


def test_questions_are_asked_in_pairs(load: Callable[..., LoadedModel], data: Data) -> None:
    found = training_examples(load("bert", "question-answering"), data)
    assert all(isinstance(each.text, tuple) for each in found) and len(found) == len(data.training)
