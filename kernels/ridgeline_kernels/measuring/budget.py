"""Seconds to spend."""

from __future__ import annotations

import time
from collections.abc import Callable


class Budget:
    """A number of seconds that runs down from its making."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._begin = clock()
        self.seconds = seconds

    @property
    def used_s(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begin

    @property
    def left_s(self) -> float:
        """Seconds left; negative when overspent."""
        return self.seconds - self.used_s

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left."""
        return self.left_s <= 0
