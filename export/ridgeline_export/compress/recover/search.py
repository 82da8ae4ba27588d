"""Which optimizer and schedule do best on the user's task: many short trainings, chosen by optuna."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.compress.progress import Progress, Silent, Step
from ridgeline_export.compress.recover.objective import Judgement, Objective
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.trial import try_out
from ridgeline_export.compress.training import OPTIMIZERS, SCHEDULES, Training
from ridgeline_export.errors import TrainingError, UsageError

# Rates are tried within these factors of what the range test suggests for the optimizer.
_LEAST_FACTOR, _MOST_FACTOR = 0.1, 3.0
_EVALUATIONS = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the trainings.

    factor: the learning rate as a multiple of the one suggested for the optimizer; rate: itself, at its highest
    curve:  steps done and the figure then, higher is better
    ending: "complete"; "pruned", when it did worse than the median of the others by then; "diverged"
    """

    number: int
    optimizer: str
    schedule: str
    factor: float
    rate: float
    curve: tuple[tuple[int, float], ...]
    ending: str

    @property
    def figure(self) -> float | None:
        """At the end; None for one that did not get there."""
        return self.curve[-1][1] if self.ending == "complete" and self.curve else None


def search(
    model: Any,
    objective: Objective,
    tokens: Tokens,
    training: Training,
    rates: Mapping[str, float],
    trials: int,
    steps: int,
    journal: Path,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Try optimizers, schedules and rates for `steps` steps each; the model stays as it is.

    Every pair of optimizer and schedule comes once, at the suggested rate, in a random order, as far as two thirds of
    the trials go (all of them when there are enough for all pairs); the others are chosen by optuna's TPE from what was
    seen and given up when they fall behind the median. The same seed gives the same trials.

    rates:   suggested for each optimizer
    journal: file of the finished trials, from which a killed search goes on
    Raises UsageError when optuna is missing, TrainingError when not one trial came to its end.
    """
    optuna = _optuna()
    study = optuna.create_study(direction="maximize")
    pairs = list(itertools.product(OPTIMIZERS, SCHEDULES))
    random.Random(training.seed).shuffle(pairs)
    pairs = pairs[: len(pairs) if trials >= len(pairs) else -(-trials * 2 // 3)]
    done = _read(journal)[:trials]
    for trial in done:
        study.add_trial(_told(optuna, trial))
    for number in range(len(done), trials):
        # Made anew for each, so that a resumed search draws what an uninterrupted one does.
        study.sampler = optuna.samplers.TPESampler(seed=training.seed * 1000 + number, n_startup_trials=1)
        study.pruner = optuna.pruners.MedianPruner(n_startup_trials=6, n_warmup_steps=steps // 2)
        if number < len(pairs):
            # Some schedules are at their best at the end alone: a pair's one comparison is at the end.
            study.pruner = optuna.pruners.NopPruner()
            optimizer, schedule = pairs[number]
            study.enqueue_trial({"optimizer": optimizer, "schedule": schedule, "factor": 1.0})
        done.append(_tried(optuna, study, number, model, objective, tokens, training, rates, steps, trials, progress))
        _append(journal, done[-1])
    if all(trial.figure is None for trial in done):
        raise TrainingError(
            f"none of the {trials} trials came to its end: all diverged; try a smaller --clip-norm or --precision fp32"
        )
    return tuple(done)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The winner; the earlier one of two that are alike."""
    complete = [trial for trial in trials if trial.figure is not None]
    return max(complete, key=lambda trial: (trial.figure, -trial.number))


def best_in(trials: Sequence[Trial], optimizer: str, schedule: str) -> Trial | None:
    """The best of a pair's trials that came to their end; else the one that was given up last; None for no trial."""
    those = [trial for trial in trials if (trial.optimizer, trial.schedule) == (optimizer, schedule)]
    if any(trial.figure is not None for trial in those):
        return best_of(those)
    return max(those, key=lambda trial: trial.curve[-1] if trial.curve else (0, -math.inf), default=None)


def _tried(
    optuna: Any,
    study: Any,
    number: int,
    model: Any,
    objective: Objective,
    tokens: Tokens,
    training: Training,
    rates: Mapping[str, float],
    steps: int,
    trials: int,
    progress: Progress,
) -> Trial:
    asked = study.ask()
    optimizer = asked.suggest_categorical("optimizer", OPTIMIZERS)
    schedule = asked.suggest_categorical("schedule", SCHEDULES)
    factor = asked.suggest_float("factor", _LEAST_FACTOR, _MOST_FACTOR, log=True)
    curve: list[tuple[int, float]] = []

    def watch(done: int, judgement: Judgement) -> None:
        curve.append((done, judgement.figure))
        asked.report(judgement.figure, done)
        if done < steps and asked.should_prune():
            raise optuna.TrialPruned

    # Evaluations are counted by epoch; a trial has its own number of them whatever its share of one.
    batches = -(-len(tokens) // training.batch_texts)
    per_epoch = -(-batches // training.accumulate)
    tried = dataclasses.replace(
        training,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=factor * rates[optimizer],
        max_steps=steps,
        patience=None,
        evaluations=max(1, round(_EVALUATIONS * per_epoch / steps)),
    )
    ending = "complete"
    try:
        try_out(model, objective, tokens, tried, _Numbered(progress, number, trials, steps), watch=watch)
        if math.isnan(curve[-1][1]):
            raise TrainingError("the figure is not finite")
        study.tell(asked, curve[-1][1])
    except optuna.TrialPruned:
        ending = "pruned"
        study.tell(asked, state=optuna.trial.TrialState.PRUNED)
    except TrainingError as error:
        if error.__cause__ is not None:  # no matter of the settings that are tried: memory, say
            raise
        ending = "diverged"
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
    return Trial(number, optimizer, schedule, factor, factor * rates[optimizer], tuple(curve), ending)


class _Numbered(Silent):
    """Shows the steps of all trials as those of one training."""

    def __init__(self, progress: Progress, number: int, trials: int, steps: int) -> None:
        self._progress, self._number, self._trials, self._steps = progress, number, trials, steps

    def train(self, step: Step) -> None:
        before = self._number * self._steps
        self._progress.train(
            dataclasses.replace(step, step=before + step.step, steps=self._trials * self._steps, eta_s=None)
        )


def _told(optuna: Any, trial: Trial) -> Any:
    """A trial of an earlier process, as optuna remembers its own."""
    factors = optuna.distributions.FloatDistribution(_LEAST_FACTOR, _MOST_FACTOR, log=True)
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "diverged": "FAIL"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[states[trial.ending]],
        value=trial.figure if trial.ending == "complete" else None,
        params={"optimizer": trial.optimizer, "schedule": trial.schedule, "factor": trial.factor},
        distributions={
            "optimizer": optuna.distributions.CategoricalDistribution(OPTIMIZERS),
            "schedule": optuna.distributions.CategoricalDistribution(SCHEDULES),
            "factor": factors,
        },
        intermediate_values=dict(trial.curve),
    )


def _read(journal: Path) -> list[Trial]:
    if not journal.is_file():
        return []
    raws = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [
        Trial(**{**raw, "curve": tuple((int(step), float(figure)) for step, figure in raw["curve"])}) for raw in raws
    ]


def _append(journal: Path, trial: Trial) -> None:
    lines = [*_read(journal), trial]
    partial = journal.with_suffix(".partial")
    partial.write_text("".join(json.dumps(dataclasses.asdict(each)) + "\n" for each in lines), encoding="utf-8")
    os.replace(partial, journal)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError("--find needs optuna; install it: pip install 'ridgeline[compress]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
