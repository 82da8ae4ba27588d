"""The search: a short look at every candidate, then a longer one at the fastest third, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from ridgeline_export.bundle import Bundle
from ridgeline_server.measuring.errors import PlanError
from ridgeline_server.measuring.messages import Prepare
from ridgeline_server.measuring.process import PlanProcess
from ridgeline_server.measuring.turns import Residents, there_and_back
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tuning.candidate import Arithmetic, Candidate
from ridgeline_server.tuning.candidates import Goal, Surroundings, candidates, choose_variants
from ridgeline_server.tuning.errors import TuneError
from ridgeline_server.tuning.quality import PlanQuality, compare, reference_candidate, stated
from ridgeline_server.tuning.results import Findings, Trial, rank
from ridgeline_server.tuning.texts import Texts

# Shares of the budget: of the first look at all candidates, and of one pass of the first of them.
_FIRST_ROUND = 0.65
_PASS = 1 / 240
_PROBE_TEXTS = 64
_LEAST_TEXTS = 128
_FIRST_PASSES = 3
_FINAL_PASSES = range(3, 12)
_LEAST_FINALISTS = 3
_FINALISTS_OF = 3
_HOPELESS = 2.0
# Texts run alone at each visit, and for how long at most, as a share of the budget.
_ALONE_TEXTS = 100
_ALONE = 1 / 240
# Passes are enough when the medians' own uncertainty, about spread / √passes, is below this.
_STABLE = 0.005
# Finalists stay loaded beside each other only in this share of the free memory.
_MEMORY = 0.5
_LEAST_PATIENCE_S = 60.0

# What is being done, of how many steps, for people: (description, steps done, steps in all).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. variants: the only ones to try, None = all; budget_s: about how long it may take."""

    goal: Goal = Goal.THROUGHPUT
    min_quality: float = 0.99
    variants: tuple[str, ...] | None = None
    budget_s: float = 120.0


class Tuner:
    """One search for the best plan of a bundle on this machine."""

    def __init__(
        self, bundle: Bundle, surroundings: Surroundings, texts: Texts, wish: Wish, progress: Progress
    ) -> None:
        self._bundle = bundle
        self._surroundings = surroundings
        self._texts = texts
        self._wish = wish
        self._progress = progress
        self._began = time.monotonic()
        self._count = 0
        self._reference: Float32Array | None = None
        self._reference_failure: str | None = None
        self._judged: dict[Arithmetic, PlanQuality] = {}

    def search(self) -> Findings:
        """Time every candidate. Raises TuneError when there is none, TuneUsageError for a variant that there is not."""
        found = candidates(choose_variants(self._bundle, self._wish.variants), self._surroundings, self._wish.goal)
        if not found:
            raise TuneError(
                f"no installed runtime runs a variant of bundle {self._bundle.path}; "
                "install one: pip install 'ridgeline[cpu]'"
            )
        trials = [Trial(candidate, barrier=self._barrier(candidate)) for candidate in found]
        self._progress("the reference answers", 0, len(trials))
        self._make_reference()
        self._look_at_all(trials)
        finalists = self._finalists(trials)
        self._compare_finalists(finalists)
        return Findings(
            goal=self._wish.goal,
            min_quality=self._wish.min_quality,
            trials=rank(trials, self._wish.goal, self._wish.min_quality),
            texts=self._count,
            corpus=self._texts.name,
            seconds=self._elapsed(),
            reference_failure=self._reference_failure,
        )

    def _look_at_all(self, trials: Sequence[Trial]) -> None:
        for index, trial in enumerate(trials):
            trial.is_left_out = self._is_hopeless(trial, trials[:index])
            if trial.is_left_out:
                continue
            if index and self._elapsed() > _FIRST_ROUND * self._wish.budget_s:
                break
            self._progress(trial.candidate.in_words, index, len(trials))
            end = time.monotonic() + _FIRST_ROUND * self._wish.budget_s / len(trials)
            try:
                with self._start(trial) as process:
                    self._first_look(process, trial, end)
            except PlanError as error:
                trial.failure = str(error)

    def _first_look(self, process: PlanProcess, trial: Trial, end: float) -> None:
        """Judge a plan and time it: one pass, and more until the instant `end`."""
        probe = process.texts_per_s(_PROBE_TEXTS)
        if not self._count:
            wanted = probe * _PASS * self._wish.budget_s
            self._count = min(len(self._texts.timed), max(_LEAST_TEXTS, int(wanted)))
        self._judge(process, trial, again=False)
        self._run_alone(process, trial)
        while not trial.was_timed or (len(trial.texts_per_s) < _FIRST_PASSES and time.monotonic() < end):
            trial.texts_per_s.append(process.texts_per_s(self._count))

    def _finalists(self, trials: Sequence[Trial]) -> list[Trial]:
        passing = [trial for trial in trials if trial.obstacle(self._wish.min_quality) is None]
        passing.sort(key=lambda trial: trial.score(self._wish.goal), reverse=True)
        most = max(_LEAST_FINALISTS, math.ceil(sum(trial.was_timed for trial in trials) / _FINALISTS_OF))
        return [trial for trial in passing[:most] if _is_near(trial, passing[0], self._wish.goal)]

    def _compare_finalists(self, finalists: Sequence[Trial]) -> None:
        first_looks = {trial: (trial.texts_per_s, trial.alone_s) for trial in finalists}
        for trial in finalists:
            trial.texts_per_s, trial.alone_s, trial.was_final = [], [], True
        with Residents(self._start, _MEMORY * psutil.virtual_memory().available) as residents:
            for number in range(_FINAL_PASSES.stop):
                running = [trial for trial in finalists if trial.failure is None]
                if number >= _FINAL_PASSES.start and (self._is_over() or all(map(_is_stable, running))):
                    break
                for trial in there_and_back(running, number):
                    self._progress(f"{trial.candidate.in_words}, pass {number + 1}", number, _FINAL_PASSES.stop)
                    try:
                        self._visit(trial, residents)
                    except PlanError as error:
                        trial.failure = f"{error}, in pass {number + 1} of the final"
        for trial, (rates, alone) in first_looks.items():
            trial.texts_per_s, trial.alone_s = trial.texts_per_s or rates, trial.alone_s or alone

    def _visit(self, trial: Trial, residents: Residents[Trial]) -> None:
        """One pass of a finalist."""
        with residents.visit(trial) as (process, is_new):
            if is_new:
                process.texts_per_s(self._count)
                self._judge(process, trial, again=True)
            trial.texts_per_s.append(process.texts_per_s(self._count))
            self._run_alone(process, trial)

    def _run_alone(self, process: PlanProcess, trial: Trial) -> None:
        trial.alone_s += process.alone_s(len(trial.alone_s), _ALONE_TEXTS, _ALONE * self._wish.budget_s)

    def _judge(self, process: PlanProcess, trial: Trial, again: bool) -> None:
        """Measure the quality of a plan; at the first look once for all plans of the same arithmetic."""
        arithmetic = trial.candidate.arithmetic
        if self._reference is not None and (again or arithmetic not in self._judged):
            judged = process.judged()
            self._judged[arithmetic] = compare(self._reference, judged.mixed, judged.alone)
        if arithmetic in self._judged:
            trial.quality = self._judged[arithmetic]
        elif self._reference is None:
            variant = self._bundle.variant(arithmetic.variant)
            trial.quality = stated(variant, arithmetic.precision, arithmetic.float_precision)
        if trial.quality and not trial.quality.is_steady and self._bundle.variant(arithmetic.variant).batch_invariant:
            trial.barrier = f"answers depend on the batch: cosine {trial.quality.itself:.2f} of a text to itself"

    def _make_reference(self) -> None:
        candidate = reference_candidate(self._bundle.manifest.variants, self._surroundings)
        if candidate is None:
            return
        try:
            with self._start(Trial(candidate)) as process:
                self._reference = process.judged().mixed
        except PlanError as error:
            self._reference_failure = str(error)

    def _start(self, trial: Trial) -> PlanProcess:
        manifest = self._bundle.manifest
        plan = trial.candidate.plan(self._bundle)
        prepare = Prepare(plan, manifest.pooling or "mean", self._texts.timed, self._texts.judged)
        return PlanProcess(prepare, max(_LEAST_PATIENCE_S, self._wish.budget_s / 2))

    def _barrier(self, candidate: Candidate) -> str | None:
        """Why a plan may not be kept: unless it was named, a variant whose answers depend on the rest of the batch."""
        name = candidate.arithmetic.variant
        if self._wish.variants is not None or self._bundle.variant(name).batch_invariant:
            return None
        return f"answers depend on the batch; kept only with --variants {name}"

    def _is_hopeless(self, trial: Trial, earlier: Sequence[Trial]) -> bool:
        """True when a plan of the same arithmetic gave answers that may not be kept."""
        return any(
            other.was_timed
            and other.candidate.arithmetic == trial.candidate.arithmetic
            and other.flaw(self._wish.min_quality) is not None
            for other in earlier
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _is_over(self) -> bool:
        return self._elapsed() > self._wish.budget_s


def _is_near(trial: Trial, best: Trial, goal: Goal) -> bool:
    """True when a first look leaves a chance that a plan is better than the one that looks best."""
    this, other = abs(trial.score(goal)), abs(best.score(goal))
    return max(this, other) <= _HOPELESS * min(this, other)


def _is_stable(trial: Trial) -> bool:
    spread = trial.spread
    return spread is not None and spread / math.sqrt(len(trial.texts_per_s)) < _STABLE
