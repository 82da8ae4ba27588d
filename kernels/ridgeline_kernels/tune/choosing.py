"""From times to a choice: cases of one shape class vote by the geometric mean of their relative times."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)

LEAST_GAIN = 0.02
"""Relative time that a candidate must save to be written, however small the noise."""


@dataclass(frozen=True)
class Duel:
    """Seconds of the shipped parameters and of the challenger, measured in turn on each case, and the timings' noise.

    A shipped time of infinity means that the shipped parameters gave no right result.
    """

    shipped_s: Mapping[str, float]
    best_s: Mapping[str, float]
    noise: float

    @property
    def relative_time(self) -> float:
        """Geometric mean over the cases of the challenger's time over the shipped one's."""
        return geometric_mean([self.best_s[case] / self.shipped_s[case] for case in self.best_s])

    @property
    def is_won(self) -> bool:
        """Whether the challenger saves more than the noise and than the least gain."""
        return self.relative_time < 1 - max(LEAST_GAIN, 2 * self.noise)


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers; 0 if one is 0."""
    if min(values) == 0.0:
        return 0.0
    return math.exp(sum(math.log(value) for value in values) / len(values))


def winner(times: Mapping[Candidate, Mapping[str, float]], cases: tuple[str, ...]) -> Candidate | None:
    """The candidate with the least geometric mean of times relative to each case's best.

    times: seconds by candidate and case; a candidate that lacks one of the cases gave a wrong result there, or none,
           and has no vote

    Returns None if no candidate has all cases.
    """
    whole = {candidate: by_case for candidate, by_case in times.items() if all(case in by_case for case in cases)}
    if not whole or not cases:
        return None
    best = {case: min(by_case[case] for by_case in whole.values()) for case in cases}
    return min(whole, key=lambda each: geometric_mean([whole[each][case] / best[case] for case in cases]))
