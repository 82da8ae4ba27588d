"""What tuning found out about each candidate, and which of them is the best."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ridgeline_server.tuning.candidate import Candidate
from ridgeline_server.tuning.candidates import Goal
from ridgeline_server.tuning.quality import PlanQuality

_LEAST_RATES_FOR_SPREAD = 2


@dataclass(slots=True, eq=False)
class Trial:
    """One candidate and what was measured of it.

    texts_per_s: rate of each pass over the same texts, sorted by length
    alone_s:     seconds of single texts, one at a time
    failure:     why it could not be measured, or stopped
    barrier:     why it may not be kept however fast it is, quality aside
    was_final:   it was measured again, in turns with the other fastest
    is_left_out: another plan of the same arithmetic had given answers that may not be kept
    """

    candidate: Candidate
    texts_per_s: list[float] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    quality: PlanQuality | None = None
    failure: str | None = None
    barrier: str | None = None
    was_final: bool = False
    is_left_out: bool = False

    @property
    def was_timed(self) -> bool:
        return bool(self.texts_per_s)

    @property
    def rate(self) -> float | None:
        """Median of the passes, texts/s."""
        return statistics.median(self.texts_per_s) if self.texts_per_s else None

    @property
    def spread(self) -> float | None:
        """Half the range of the passes over their median."""
        if len(self.texts_per_s) < _LEAST_RATES_FOR_SPREAD:
            return None
        return (max(self.texts_per_s) - min(self.texts_per_s)) / 2 / statistics.median(self.texts_per_s)

    @property
    def alone_p50_s(self) -> float | None:
        return statistics.median(self.alone_s) if self.alone_s else None

    @property
    def alone_p99_s(self) -> float | None:
        return float(np.percentile(self.alone_s, 99)) if self.alone_s else None

    def score(self, goal: Goal) -> float:
        """More is better; minus infinity when it was not measured."""
        measured = self.rate if goal is Goal.THROUGHPUT else self.alone_p50_s
        if measured is None:
            return float("-inf")
        return measured if goal is Goal.THROUGHPUT else -measured

    def obstacle(self, min_quality: float) -> str | None:
        """Why this plan is not kept; None when it may be."""
        if self.failure or self.barrier:
            return self.failure or self.barrier
        return self.flaw(min_quality) if self.was_timed else "not timed"

    def flaw(self, min_quality: float) -> str | None:
        """Why the answers of a plan that was timed may not be kept, those of any plan of its arithmetic; or None."""
        if self.barrier:
            return self.barrier
        if self.quality is None:
            return "its quality was not measured"
        if self.quality.mean < min_quality:
            return f"under the floor of {min_quality:g}"
        return None


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that tuning found out.

    trials:    the best first, then those that could be kept, then the others
    texts:     timed in each pass
    corpus:    name of the texts
    seconds:   that tuning took
    reference_failure: why the fp32 variant could not answer, so that no quality was measured
    """

    goal: Goal
    min_quality: float
    trials: tuple[Trial, ...]
    texts: int
    corpus: str
    seconds: float
    reference_failure: str | None = None

    @property
    def untimed(self) -> int:
        """How many plans were left when the time was over."""
        return sum(not (trial.was_timed or trial.failure or trial.is_left_out) for trial in self.trials)

    @property
    def left_out(self) -> int:
        """How many plans were left out, since another one of the same arithmetic may not be kept."""
        return sum(trial.is_left_out for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The best plan that passes; None when none does."""
        return next((trial for trial in self.trials if trial.obstacle(self.min_quality) is None), None)

    @property
    def passing(self) -> int:
        """How many plans were timed and pass."""
        return sum(trial.obstacle(self.min_quality) is None for trial in self.trials)

    @property
    def reason(self) -> str:
        """Why the best is the best, as a clause. There must be one."""
        assert self.best is not None
        what = "fastest" if self.goal is Goal.THROUGHPUT else "quickest with one text"
        plans = f"{what} of {self.passing} plan{'s' * (self.passing != 1)}"
        return f"{plans} with cosine ≥ {self.min_quality:g} ({describe_speed(self.best, self.goal)})"


def rank(trials: Sequence[Trial], goal: Goal, min_quality: float) -> tuple[Trial, ...]:
    """Trials with those first that may be kept, finalists before others, the best first."""

    def key(trial: Trial) -> tuple[bool, bool, bool, float]:
        return (
            trial.obstacle(min_quality) is None,
            trial.was_timed,
            trial.was_final,
            trial.score(goal),
        )

    return tuple(sorted(trials, key=key, reverse=True))


def describe_speed(trial: Trial, goal: Goal) -> str:
    """The figure that the goal is about, with its unit."""
    if goal is Goal.THROUGHPUT:
        return f"{trial.rate or 0.0:,.0f} texts/s offline"
    return f"{1e3 * (trial.alone_p50_s or 0.0):.2f} ms a text alone"
