"""Training in several processes, here on the CPU."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_export.compress.progress import Silent, Step
from ridgeline_export.compress.recover.distributed import fit_on_several
from ridgeline_export.compress.recover.fit import fit
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.world import World
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TrainingError
from tests.export.compress.recover.processes import Bag, Count, DiesInOneProcess, Scaled

SETTINGS: dict[str, Any] = {
    "batch_texts": 19,
    "accumulate": 2,
    "epochs": 3.0,
    "learning_rate": 0.5,
    "optimizer": "sgd",
    "precision": "fp32",
}
CPU = torch.device("cpu")


class Steps(Silent):
    """Remembers the steps that it is shown, and gives up after one of them."""

    def __init__(self, last: int | None = None) -> None:
        self.seen: list[Step] = []
        self.last = last

    def train(self, step: Step) -> None:
        self.seen.append(step)
        if step.step == self.last:
            raise KeyboardInterrupt


def tokens() -> Tokens:
    """39 texts of 3 to 12 tokens: batches of 19, 19 and 1, of which one process alone has a text."""
    random = np.random.default_rng(0)
    lengths = random.integers(3, 13, 39)
    return Tokens(
        ids=random.integers(1, 50, lengths.sum()).astype(np.int32),
        type_ids=None,
        offsets=np.cumsum([0, *lengths]),
        labels=random.integers(0, 3, 39),
        pad_token_id=0,
    )


def test_two_processes_make_the_steps_of_one(tmp_path: Path) -> None:
    one, own, steps, hook = Bag(), Scaled(), Steps(), Count()
    by_one = fit(one, own, tokens(), Training(**SETTINGS), None, steps, [hook], World(CPU))
    two, shared, seen, counted = Bag(), Scaled(), Steps(), Count()
    (tmp_path / "run").mkdir()
    by_two = fit_on_several(two, shared, tokens(), Training(**SETTINGS), tmp_path / "run", seen, [counted], [CPU, CPU])

    for expected, given in zip(
        [*one.parameters(), *own.modules.parameters()], [*two.parameters(), *shared.modules.parameters()], strict=True
    ):
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(one.classifier.weight, Bag().classifier.weight)
    assert [step.loss for step in seen.seen] == pytest.approx([step.loss for step in steps.seen], rel=1e-4)
    assert hook.steps == counted.steps == by_one.steps == by_two.steps == 6 and len(by_two.history) == 3
    assert by_two.best.figure == pytest.approx(by_one.best.figure) and multiprocessing.active_children() == []


@pytest.mark.parametrize("objective", [DiesInOneProcess(), Scaled()], ids=["killed", "given up"])
def test_no_process_outlives_the_training(tmp_path: Path, objective: Any) -> None:
    error: type[BaseException] = KeyboardInterrupt
    sentence = None
    if isinstance(objective, DiesInOneProcess):
        error, sentence = TrainingError, r"process of cpu ended \(killed.*goes on from the last checkpoint"

    with pytest.raises(error, match=sentence):
        fit_on_several(Bag(), objective, tokens(), Training(**SETTINGS), tmp_path, Steps(5), [], [CPU, CPU])

    assert multiprocessing.active_children() == []


def test_what_cannot_travel_is_refused(tmp_path: Path) -> None:
    objective: Any = Scaled()
    objective.extra = lambda: 0.0

    with pytest.raises(TrainingError, match="cannot be sent to several devices"):
        fit_on_several(Bag(), objective, tokens(), Training(**SETTINGS), tmp_path, Silent(), [], [CPU, CPU])
