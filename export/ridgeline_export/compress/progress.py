"""Where a compression shows what it does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Step:
    """A training step, for people.

    step, steps: of how many; rate: the learning rate; eta_s: seconds that are left, None before it can be told
    figure:      the last evaluation, name and value, None before the first
    """

    step: int
    steps: int
    epoch: float
    loss: float
    rate: float
    texts_per_s: float
    eta_s: float | None
    figure: tuple[str, float] | None = None


class Progress(Protocol):
    """What a terminal, a log or a test makes of the news."""

    def stage(self, description: str) -> AbstractContextManager[None]:
        """A stage of the work; raises KeyboardInterrupt on entering or leaving when the user gave up."""
        ...

    def train(self, step: Step) -> None:
        """A step was made; called after every one, cheap to call. Raises KeyboardInterrupt when the user gave up."""
        ...

    def say(self, sentence: str) -> None:
        """Something that stays on the screen: a warning, a result."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, description: str) -> AbstractContextManager[None]:
        return nullcontext()

    def train(self, step: Step) -> None:
        return

    def say(self, sentence: str) -> None:
        return
