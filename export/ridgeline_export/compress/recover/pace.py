"""How fast a training run goes and when it will end."""

from __future__ import annotations

import time
from collections import deque

from ridgeline_export.compress.progress import Step

# Steps that the speed is told from: enough to be steady, few enough to follow a machine that becomes busy.
_WINDOW = 50


class Pace:
    """Turns steps into news.

    steps:          of the whole run
    first:          step that this process begins with; those before it were another's
    seconds_before: that those took
    """

    def __init__(self, steps: int, first: int, seconds_before: float) -> None:
        self._steps, self._first, self._seconds_before = steps, first, seconds_before
        self._began = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=_WINDOW + 1)

    def seconds(self) -> float:
        """Of the whole run until now."""
        return self._seconds_before + time.monotonic() - self._began

    def step(
        self, done: int, epoch: float, loss: float, rate: float, texts: int, figure: tuple[str, float] | None
    ) -> Step:
        """The news of a step. done: steps with this one; texts: in this step"""
        now = time.monotonic()
        self._recent.append((now, texts))
        taken_s = now - self._recent[0][0]
        seen = sum(count for _, count in list(self._recent)[1:])
        # Over evaluations and checkpoints too: they will come again. The first step alone tells little.
        made = done - self._first
        eta_s = (now - self._began) / made * (self._steps - done) if made > 1 else None
        return Step(
            step=done,
            steps=self._steps,
            epoch=epoch,
            loss=loss,
            rate=rate,
            texts_per_s=seen / taken_s if taken_s > 0 else 0.0,
            eta_s=eta_s,
            figure=figure,
        )
