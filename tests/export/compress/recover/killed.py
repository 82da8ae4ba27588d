"""A training in a process of its own that is killed now and then, for test_resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch

from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recover import checkpoint
from ridgeline_export.compress.recover.labels import LabelObjective
from ridgeline_export.compress.recover.loop import train
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.training import Training
from tests.export.compress.recover.toy import LABELS, labelled, load


class Scores:
    """A hook with a state: it adds up a weight's gradients, and damps the weight by what it has."""

    def __init__(self, model: Any) -> None:
        self.weight = model.classifier.weight
        self.sums = torch.zeros_like(self.weight)

    def before_step(self, step: int, steps: int) -> None:
        self.sums += self.weight.grad.abs()

    def after_step(self, step: int, steps: int) -> None:
        with torch.no_grad():
            self.weight -= 1e-3 * self.sums * torch.rand(())

    def settle(self, average: torch.nn.Module) -> None:
        return

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])


class Killer(Silent):
    """Kills this process after a step, or while a checkpoint is written."""

    def __init__(self, step: int | None, moment: str) -> None:
        self.step, self.moment = step, moment
        if step is not None and moment in ("before rename", "half written"):
            self.arm()

    def arm(self) -> None:
        written = checkpoint._write

        def write(path: Path, state: dict[str, Any]) -> None:
            written(path, state)
            if state["step"] == self.step:
                if self.moment == "half written":
                    os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoint._write = write

    def train(self, step: Step) -> None:
        if step.step == self.step and self.moment == "after step":
            os.kill(os.getpid(), signal.SIGKILL)


def run(model: Path, directory: Path, out: Path, settings: dict[str, Any], step: int | None, moment: str) -> None:
    """Train, and write the weights and the step that the run went on from to `out`."""
    torch.set_num_threads(1)
    loaded = load(model)
    examples = labelled()
    objective = LabelObjective(tokenize(loaded.encoder, examples, 32, LABELS))
    hooks = [Scores(loaded.model)]
    trained = train(
        loaded.model,
        objective,
        examples,
        loaded,
        Training(**settings),
        directory,
        Killer(step, moment),
        labels=LABELS,
        hooks=hooks,
    )
    torch.save((loaded.model.state_dict(), trained.resumed_at, list(trained.history)), out)
