"""Which texts every step of a training run sees, and after which steps it is judged: known before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ridgeline_export.compress.recover.tokens import Indices, batches_of
from ridgeline_export.compress.training import Training


@dataclass(slots=True)
class Plan:
    """Batches by step.

    lengths:         int64 [texts]
    steps:           optimizer steps of the whole run
    steps_per_epoch: the last of an epoch may have fewer batches, and its last batch fewer texts
    """

    lengths: Indices
    training: Training
    steps: int
    steps_per_epoch: int
    _epoch: int = -1
    _batches: list[Indices] = field(default_factory=list)

    def batches(self, step: int) -> list[Indices]:
        """The batches whose gradients make a step, counted from 0: places of texts, int64 [texts] each."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._batches = batches_of(self.lengths, self.training.batch_texts, self.training.seed, epoch)
            self._epoch = epoch
        many = self.training.accumulate
        return self._batches[place * many : (place + 1) * many]

    def is_judged_after(self, done: int) -> bool:
        """Whether an evaluation is due when so many steps are done; the last is always."""
        many, every = self.training.evaluations, self.steps_per_epoch
        return done == self.steps or done * many // every > (done - 1) * many // every


def make_plan(lengths: Indices, training: Training) -> Plan:
    """The plan for texts of these lengths."""
    batches = math.ceil(len(lengths) / training.batch_texts)
    per_epoch = math.ceil(batches / training.accumulate)
    # Rounded first: 0.1 · 30 steps are 3, not 4.
    steps = training.max_steps or max(1, math.ceil(round(training.epochs * per_epoch, 6)))
    return Plan(lengths, training, steps, per_epoch)
