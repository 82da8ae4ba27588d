"""A run that is killed and started again ends with the same weights, bit by bit."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.compress.recover import killed

EVERYTHING = {
    "batch_texts": 10,
    "accumulate": 2,
    "epochs": 4.0,
    "learning_rate": 3e-3,
    "max_tokens": 32,
    "dropout": 0.2,
    "ema": 0.9,
    "patience": 9,
    "label_smoothing": 0.1,
    "layer_decay": 0.9,
    "checkpoint_s": 0.0,
}


@pytest.fixture(scope="module")
def start() -> Callable[..., int | None]:
    """Run `killed.run` in a process forked by a server that has imported everything: starting one takes no time."""
    context = multiprocessing.get_context("forkserver")
    # torch's optimizers import torch._dynamo when they are made.
    modules = (
        "torch._dynamo",
        "torch.optim.swa_utils",
        "transformers.models.bert.modeling_bert",
        "optimum.exporters.tasks",
    )
    context.set_forkserver_preload(list(modules))

    def started(*arguments: Any) -> int | None:
        process = context.Process(target=killed.run, args=arguments)
        process.start()
        process.join()
        return process.exitcode

    return started


KILLS = ((1, "half written"), (2, "after step"), (5, "before rename"), (12, "after step"))


@pytest.mark.parametrize(
    ("settings", "kills"),
    [
        ({"optimizer": "adamw", "schedule": "one-cycle", "precision": "bf16"}, KILLS),
        ({"optimizer": "rmsprop", "schedule": "cyclic", "precision": "fp32"}, KILLS[2:]),
    ],
    ids=["bf16", "fp32"],
)
def test_killed_again_and_again_it_ends_with_the_same_weights(
    start: Callable[..., int | None],
    tiny_models: Callable[..., Path],
    tmp_path: Path,
    settings: dict[str, Any],
    kills: tuple[tuple[int, str], ...],
) -> None:
    model = tiny_models("bert", "text-classification")
    settings = {**EVERYTHING, **settings}
    assert start(model, tmp_path / "whole", tmp_path / "whole.pt", settings, None, "") == 0

    for step, moment in kills:
        code = start(model, tmp_path / "killed", tmp_path / "killed.pt", settings, step, moment)
        assert code == -9, f"not killed at step {step}"
    assert start(model, tmp_path / "killed", tmp_path / "killed.pt", settings, None, "") == 0

    whole, from_start, history = torch.load(tmp_path / "whole.pt")
    again, resumed_at, told = torch.load(tmp_path / "killed.pt")
    assert (from_start, resumed_at) == (0, 11) and history == told
    for name, value in whole.items():
        assert value.numpy().tobytes() == again[name].numpy().tobytes(), name
