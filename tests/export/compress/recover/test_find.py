"""--find: range tests, the search, its tables and plots."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_export.compress.progress import Silent
from ridgeline_export.compress.recover.find import find, make_table
from ridgeline_export.compress.recover.objective import Batch
from ridgeline_export.compress.recover.range_test import RANGES, range_test, suggest
from ridgeline_export.compress.recover.search import Trial, best_of, search
from ridgeline_export.compress.training import OPTIMIZERS, Training
from ridgeline_export.errors import TrainingError
from tests.export.compress.recover.processes import Bag, Scaled
from tests.export.compress.recover.test_distributed import tokens

TRAINING = Training(batch_texts=13, precision="fp32")


class Nan(Scaled):
    """Diverges whatever is done."""

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        return super().loss(model, batch) * float("nan")


def state_of(*modules: Any) -> list[torch.Tensor]:
    return [value.clone() for module in modules for value in module.state_dict().values()]


def test_a_range_test_ends_when_the_loss_breaks_away_and_leaves_the_model_alone() -> None:
    model, objective = Bag(), Scaled()
    before = state_of(model, objective.modules)

    found = range_test(model, objective, tokens(), dataclasses.replace(TRAINING, optimizer="adam"), 80, Silent())

    assert all(torch.equal(a, b) for a, b in zip(before, state_of(model, objective.modules), strict=True))
    steps = len(found.rates)
    assert found.rates[0] == pytest.approx(RANGES["adam"][0]) and found.rates == tuple(sorted(found.rates))
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e5) / 79) and len(found.losses) == steps
    assert found.rates[0] < found.suggested < found.rates[-1]


def test_the_suggestion_is_below_the_lowest_loss_or_the_breaking_away() -> None:
    rates = np.geomspace(1e-6, 1.0, 120)
    noise = np.random.default_rng(0).normal(0, 0.01, 120)
    valley = 1 - 0.5 * np.exp(-(np.log10(rates / 1e-3) ** 2)) + np.where(rates > 0.1, rates * 30, 0) + noise
    cliff = 1 + np.where(rates > 0.03, rates * 30, 0) + noise

    assert suggest(list(rates), list(valley)) == pytest.approx(1e-3 / 3, rel=0.4)
    assert 0.03 / 20 < suggest(list(rates), list(cliff)) <= 0.03 / 10
    with pytest.raises(TrainingError, match="not finite at the lowest learning rate"):
        suggest([], [])


def searched(tmp_path: Path, trials: int, objective: Any = None, **settings: Any) -> tuple[Trial, ...]:
    training = dataclasses.replace(TRAINING, **settings)
    rates = dict.fromkeys(OPTIMIZERS, 1e-2)
    journal = tmp_path / "trials.jsonl"
    return search(Bag(), objective or Scaled(), tokens(), training, rates, trials, 6, journal, Silent())


def test_a_search_that_was_killed_goes_on_with_the_same_trials(tmp_path: Path) -> None:
    whole = searched(tmp_path, 9)
    journal = tmp_path / "trials.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:7]))

    assert searched(tmp_path, 9) == whole
    # Two thirds are different pairs at the suggested rate, the others what optuna makes of them.
    assert len({(trial.optimizer, trial.schedule) for trial in whole[:6]}) == 6
    assert {trial.rate for trial in whole[:6]} == {1e-2} and len({trial.rate for trial in whole}) == 4
    assert {trial.ending for trial in whole} <= {"complete", "pruned"}
    assert best_of(whole).figure == max(trial.figure for trial in whole if trial.figure is not None)


def test_every_pairs_first_trial_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna.pruners.MedianPruner.prune", lambda *_: True)
    trials = searched(tmp_path, 9)

    assert [trial.ending for trial in trials] == ["complete"] * 6 + ["pruned"] * 3


def test_a_search_where_everything_diverges_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none of the 3 trials came to its end"):
        searched(tmp_path, 3, Nan())


def test_the_table_names_the_winner() -> None:
    trials = [
        Trial(0, "sgd", "linear", 1.0, 0.5, ((5, 0.7), (10, 0.8)), "complete"),
        Trial(1, "adamw", "cosine", 1.0, 0.001, ((5, 0.8), (10, 0.9)), "complete"),
        Trial(2, "adamw", "cosine", 2.0, 0.002, ((5, 0.1),), "pruned"),
        Trial(3, "sgd", "cosine", 1.0, 0.5, ((5, 0.2),), "pruned"),
        Trial(4, "sgd", "step", 1.0, 0.5, (), "diverged"),
    ]
    table = make_table(trials)

    assert "| sgd | – | 0.8000 (0.5) | [0.2000 at step 5] | – | diverged | – | – |" in table
    assert "**0.9000 (0.001)**" in table
    assert "adamw with the schedule cosine at a learning rate of 0.001 wins: 0.9000 after 10 steps" in table


def test_findings_are_kept_with_their_plots_and_train_with_the_winner(
    tiny_models: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    progress: Any = Silent()
    progress.say = said.append
    job: Any = SimpleNamespace(
        directory=tmp_path,
        progress=progress,
        loaded=SimpleNamespace(model=Bag(), encoder=None, task="feature-extraction", labels=None),
        data=SimpleNamespace(training=()),
    )
    monkeypatch.setattr("ridgeline_export.compress.recover.find.tokenize", lambda *_: tokens())

    found = find(job, Scaled(), TRAINING, None, trials=4, steps=10)

    kept = tmp_path / "keep" / "find"
    raw = json.loads((kept / "find.json").read_text())
    assert raw["winner"]["optimizer"] == found.training.optimizer and len(raw["trials"]) == 4
    assert raw["winner"]["learning_rate"] == found.training.learning_rate
    assert set(raw["suggested_rates"]) == set(OPTIMIZERS) and "wins" in said[-1]
    assert all((kept / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in ("range", "trials", "heat"))

    monkeypatch.setattr("ridgeline_export.compress.recover.find.range_test", None)
    assert find(job, Scaled(), TRAINING, None, trials=4, steps=10) == found
