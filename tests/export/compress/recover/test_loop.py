"""The training loop: what it learns, keeps, repeats and refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recover.labels import LabelObjective
from ridgeline_export.compress.recover.loop import train
from ridgeline_export.compress.recover.objective import Batch, Judgement, Trained
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TrainingError, UsageError
from ridgeline_export.load import LoadedModel
from tests.export.compress.recover.toy import LABELS, labelled, load

FAST = {"batch_texts": 16, "epochs": 12.0, "learning_rate": 3e-3, "precision": "fp32", "max_tokens": 32}


class Steps(Silent):
    """Remembers the steps that it is shown."""

    def __init__(self) -> None:
        self.seen: list[Step] = []

    def train(self, step: Step) -> None:
        self.seen.append(step)


@pytest.fixture
def classifier(tiny_models: Callable[..., Path]) -> LoadedModel:
    return load(tiny_models("bert", "text-classification"))


def run(loaded: LoadedModel, directory: Path, progress: Any = None, **settings: Any) -> Trained:
    examples = labelled()
    objective = LabelObjective(tokenize(loaded.encoder, examples, 32, LABELS))
    training = Training(**{**FAST, **settings})
    return train(loaded.model, objective, examples, loaded, training, directory, progress or Silent(), labels=LABELS)


def test_it_learns_and_tells_how_it_goes(classifier: LoadedModel, tmp_path: Path) -> None:
    steps = Steps()

    trained = run(classifier, tmp_path / "run", steps)

    assert trained.best.name == "accuracy" and trained.best.figure > 0.9
    assert trained.steps == len(steps.seen) == 36 and trained.resumed_at == 0
    assert [entry["step"] for entry in trained.history] == list(range(3, 37, 3))
    assert steps.seen[0].eta_s is None and steps.seen[-1].eta_s == 0
    assert steps.seen[-1].figure == ("accuracy", trained.best.figure) and steps.seen[-1].epoch == 12
    assert not classifier.model.training and all(each.grad is None for each in classifier.model.parameters())


def test_a_finished_run_is_taken_as_it_is(classifier: LoadedModel, tmp_path: Path) -> None:
    start = copy.deepcopy(classifier.model.state_dict())
    first = run(classifier, tmp_path, max_steps=4, ema=0.5)
    weights = copy.deepcopy(classifier.model.state_dict())
    classifier.model.load_state_dict(start)

    again = run(classifier, tmp_path, max_steps=4, ema=0.5)

    assert again.resumed_at == again.steps == 4 and again.best == first.best and again.history == first.history
    assert all(torch.equal(value, weights[name]) for name, value in classifier.model.state_dict().items())


def test_a_run_of_other_weights_is_not_gone_on_with(classifier: LoadedModel, tmp_path: Path) -> None:
    run(classifier, tmp_path, max_steps=2)
    with pytest.raises(TrainingError, match="the model that it began with differ"):
        run(classifier, tmp_path, max_steps=2)


def test_what_training_is_random_about_leaves_no_trace(classifier: LoadedModel, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    run(classifier, tmp_path, max_steps=2)

    assert torch.equal(torch.rand(3), expected)


def test_accumulated_batches_make_the_step_of_one_large_batch(tiny_models: Callable[..., Path], tmp_path: Path) -> None:
    weights = []
    for number, settings in enumerate(({"batch_texts": 48}, {"batch_texts": 20, "accumulate": 3})):
        loaded = load(tiny_models("bert", "text-classification"))
        trained = run(
            loaded,
            tmp_path / str(number),
            optimizer="sgd",
            learning_rate=0.5,
            epochs=2.0,
            dropout=0.0,
            warmup=0.0,
            **settings,
        )
        assert trained.steps == 2
        weights.append(torch.cat([each.detach().flatten() for each in loaded.model.parameters()]))
    start = torch.cat(
        [each.detach().flatten() for each in load(tiny_models("bert", "text-classification")).model.parameters()]
    )

    moved = (weights[0] - start).norm()
    assert (weights[0] - weights[1]).norm() < 1e-4 * moved


class Scripted:
    """Learns labels, but is judged as it was told: the figures of its evaluations, one after the other."""

    modules = None

    def __init__(self, inner: LabelObjective, figures: list[float]) -> None:
        self.inner, self.figures, self.judged = inner, figures, []

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        return self.inner.loss(model, batch)

    def evaluate(self, model: Any) -> Judgement:
        assert not model.training
        self.judged.append({name: value.clone() for name, value in model.state_dict().items()})
        figure = self.figures[len(self.judged) - 1]
        return Judgement("told", figure, {"told": figure})


def scripted(loaded: LoadedModel, directory: Path, figures: list[float], **settings: Any) -> tuple[Scripted, Trained]:
    examples = labelled()
    objective = Scripted(LabelObjective(tokenize(loaded.encoder, examples, 32, LABELS)), figures)
    training = Training(**{**FAST, **settings})
    trained = train(loaded.model, objective, examples, loaded, training, directory, Silent(), labels=LABELS)
    return objective, trained


@pytest.mark.parametrize("ema", [None, 0.9])
def test_patience_ends_the_training_and_keeps_the_best(
    classifier: LoadedModel, tmp_path: Path, ema: float | None
) -> None:
    objective, trained = scripted(classifier, tmp_path, [0.1, 0.3, 0.2, 0.3, 0.9], patience=2, ema=ema)

    assert [entry["told"] for entry in trained.history] == [0.1, 0.3, 0.2, 0.3] and trained.best.figure == 0.3
    assert trained.steps == 12
    best = objective.judged[1]
    assert all(torch.equal(value, best[name]) for name, value in classifier.model.state_dict().items())


def test_without_patience_the_last_weights_stay(classifier: LoadedModel, tmp_path: Path) -> None:
    objective, trained = scripted(classifier, tmp_path, [0.9, 0.1], epochs=1.0, evaluations=2)

    assert trained.best.figure == 0.1 and trained.steps == 3 and [each["step"] for each in trained.history] == [2, 3]
    last = objective.judged[-1]
    assert all(torch.equal(value, last[name]) for name, value in classifier.model.state_dict().items())


class Spoiling(LabelObjective):
    """Its loss is no number any more from the fifth batch on."""

    batches = 0

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        self.batches += 1
        return super().loss(model, batch) * (float("nan") if self.batches > 4 else 1.0)


def test_a_loss_that_is_no_number_ends_with_a_sentence_and_the_last_good_checkpoint(
    classifier: LoadedModel, tmp_path: Path
) -> None:
    examples = labelled()
    objective = Spoiling(tokenize(classifier.encoder, examples, 32, LABELS))
    training = Training(**FAST, checkpoint_s=0.0)

    with pytest.raises(
        TrainingError, match=r"loss is not finite any more at step 5 of 36, at a learning rate of .*try"
    ):
        train(classifier.model, objective, examples, classifier, training, tmp_path, Silent(), labels=LABELS)

    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 4 and all(value.isfinite().all() for value in state["model"].values())


class Steep(LabelObjective):
    """Its gradients are finite, but not what a huge rate makes of them."""

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        return super().loss(model, batch) * 1e6


def test_weights_that_overflow_never_become_a_checkpoint(classifier: LoadedModel, tmp_path: Path) -> None:
    examples = labelled()
    objective = Steep(tokenize(classifier.encoder, examples, 32, LABELS))
    settings = {**FAST, "optimizer": "sgd", "learning_rate": 1e38, "warmup": 0.0, "clip_norm": 0.0}

    with pytest.raises(TrainingError, match=r"weights are not finite any more at step 1 of 36.*--clip-norm 1"):
        training = Training(**settings, checkpoint_s=0.0)
        train(classifier.model, objective, examples, classifier, training, tmp_path, Silent(), labels=LABELS)

    assert not (tmp_path / "checkpoint.pt").exists()


def test_too_few_texts_are_refused(classifier: LoadedModel, tmp_path: Path) -> None:
    objective = LabelObjective(tokenize(classifier.encoder, labelled(31), 32, LABELS))
    with pytest.raises(UsageError, match="31 texts for training; training needs at least 32"):
        train(classifier.model, objective, labelled(31), classifier, Training(), tmp_path, Silent(), labels=LABELS)


@pytest.mark.parametrize(
    ("devices", "sentence"),
    [
        (("gpu",), "'gpu'; a device is cpu, cuda or cuda:NUMBER"),
        (("cuda:99",), "'cuda:99', but PyTorch sees"),
        ((), "--devices is empty"),
    ],
)
def test_devices_that_are_not_there_are_refused(
    classifier: LoadedModel, tmp_path: Path, devices: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        run(classifier, tmp_path, devices=devices)


def test_a_checkpoint_of_another_training_is_refused(classifier: LoadedModel, tmp_path: Path) -> None:
    run(classifier, tmp_path, max_steps=1)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is of another run.*--fresh"):
        run(classifier, tmp_path, max_steps=1, learning_rate=1e-4)
