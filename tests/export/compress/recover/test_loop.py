"""The training loop: what it learns, keeps, repeats and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recover.labels import LabelObjective
from ridgeline_export.compress.recover.loop import train
from ridgeline_export.compress.recover.objective import Trained
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.training import Training
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
    first = run(classifier, tmp_path, max_steps=4, ema=0.5)
    weights = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    with torch.no_grad():
        for parameter in classifier.model.parameters():
            parameter.add_(1)

    again = run(classifier, tmp_path, max_steps=4, ema=0.5)

    assert again.resumed_at == again.steps == 4 and again.best == first.best and again.history == first.history
    assert all(torch.equal(value, weights[name]) for name, value in classifier.model.state_dict().items())
