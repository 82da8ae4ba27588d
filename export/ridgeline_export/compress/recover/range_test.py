"""Which learning rates a training can have: they rise from step to step until the loss breaks away (Smith 2017)."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline_export.compress.progress import Progress, Silent, Step
from ridgeline_export.compress.recover.objective import Batch, Judgement, Objective
from ridgeline_export.compress.recover.tokens import Tokens
from ridgeline_export.compress.recover.trial import try_out
from ridgeline_export.compress.training import Training
from ridgeline_export.errors import TrainingError

# Lowest and highest rate by optimizer: what any task's best one lies between, with room on both sides.
RANGES = {
    "sgd": (1e-4, 10.0),
    "momentum": (1e-4, 10.0),
    "adam": (1e-6, 0.1),
    "adamw": (1e-6, 0.1),
    "rmsprop": (1e-6, 0.1),
    "adagrad": (1e-5, 1.0),
}
# The loss has broken away when it is above its beginning by this share of it, or by as much as it had fallen.
_BREAKS_AWAY = 0.1
# A suggested rate is so much below that of the lowest loss, where the next steps already harm; and so much below that
# of the breaking away when the loss never fell visibly.
_BELOW_LOWEST, _BELOW_BREAK = 3.0, 10.0
# Steps whose mean decides whether the loss has broken away.
_LAST = 5


@dataclass(frozen=True, slots=True)
class RangeTest:
    """rates and losses of the steps that were made, the losses smoothed; suggested: the rate to train with"""

    optimizer: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float


def range_test(
    model: Any, objective: Objective, tokens: Tokens, training: Training, steps: int, progress: Progress
) -> RangeTest:
    """Train for up to `steps` steps with rates that rise over the optimizer's range, and leave the model as it was.

    Rates rise by the same factor at each step, until the loss breaks away or the range ends.
    """
    seen = _Seen(progress)
    tried = dataclasses.replace(
        training,
        max_steps=steps,
        learning_rate=RANGES[training.optimizer][1],
        patience=None,
        ema=None,
        warmup=0.0,
        layer_decay=1.0,
    )
    try:
        with contextlib.suppress(_BrokeAwayError):
            try_out(model, _Unjudged(objective), tokens, tried, seen, schedule=_rising)
    except TrainingError as error:
        if error.__cause__ is not None:  # no matter of the rate: memory, say
            raise
    losses = _averages(seen.losses)
    return RangeTest(training.optimizer, tuple(seen.rates), tuple(losses), suggest(seen.rates, seen.losses))


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """The rate to train with, from the losses of rising rates.

    A third of the rate at which the loss, averaged over neighbouring steps, is lowest. Where it never fell by more than
    its noise at the lowest rates (a short test, or few texts) a tenth of the last rate before it broke away.
    Raises TrainingError when there are no losses, that is, they are no numbers at the lowest rate already.
    """
    if not losses:
        raise TrainingError(
            "the loss is not finite at the lowest learning rate already, before any training; check the model and try "
            "--precision fp32"
        )
    averages = _averages(losses)
    begin = np.array(losses[: max(2, len(losses) // 3)])
    lowest = int(np.argmin(averages))
    # Four deviations of such an average: among so many, the lowest is two below the mean by chance.
    if begin.mean() - averages[lowest] > 4 * begin.std() / math.sqrt(_width(len(losses))):
        return rates[lowest] / _BELOW_LOWEST
    is_sound = np.array(averages) <= begin.mean() + max(_BREAKS_AWAY * abs(begin.mean()), begin.std())
    return rates[int(np.flatnonzero(is_sound).max(initial=0))] / _BELOW_BREAK


def _averages(losses: Sequence[float]) -> list[float]:
    """Each loss averaged with its neighbours on both sides."""
    reach = _width(len(losses)) // 2
    return [float(np.mean(losses[max(0, place - reach) : place + reach + 1])) for place in range(len(losses))]


def _width(steps: int) -> int:
    return max(3, steps // 12)


def _rising(optimizer: Any, training: Training, steps: int) -> Any:
    from torch.optim.lr_scheduler import LambdaLR

    lowest, highest = RANGES[training.optimizer]
    factor = highest / lowest
    return LambdaLR(optimizer, lambda step: factor ** (step / max(1, steps - 1) - 1))


class _BrokeAwayError(Exception):
    """The loss has; the test is over."""


class _Seen(Silent):
    """Collects the losses, and ends the test when there is no more to see."""

    def __init__(self, progress: Progress) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._progress = progress

    def train(self, step: Step) -> None:
        self._progress.train(step)
        self.rates.append(step.rate)
        self.losses.append(step.loss)
        first, last = float(np.mean(self.losses[:_LAST])), float(np.mean(self.losses[-_LAST:]))
        fallen = first - min(_averages(self.losses))
        if last > first + max(fallen, 2 * _BREAKS_AWAY * abs(first)):
            raise _BrokeAwayError


class _Unjudged:
    """An objective that is not evaluated."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def modules(self) -> Any:
        return self._objective.modules

    def loss(self, model: Any, batch: Batch) -> Any:
        return self._objective.loss(model, batch)

    def evaluate(self, model: Any) -> Judgement:
        return Judgement("", math.nan, {})
