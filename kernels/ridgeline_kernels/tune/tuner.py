"""The search: compile everything, time the candidates, let the winner fight the shipped parameters once more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.ahead import Compile
from ridgeline_kernels.compilation.sweep import Lookup
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.measuring.worker import Caller, Failure
from ridgeline_kernels.tune.bench import Trial
from ridgeline_kernels.tune.choosing import Duel, winner
from ridgeline_kernels.tune.grids import Parameters, Space
from ridgeline_kernels.tune.plan import Question, key_of, prune, questions_of, work_of

_TRIAL_TIMEOUT_S = 30.0
_QUESTIONS_AT_ONCE = 12
_FAR_BEHIND = 1.5
_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """Parameters that beat the shipped ones. candidates: how many were timed."""

    lookup: Lookup
    parameters: Parameters
    duel: Duel
    candidates: int


@dataclass
class Tuned:
    """choices: what is better than shipped; kept: shape classes whose shipped parameters stay; notes: what went wrong
    or was left out, a line each."""

    choices: list[Choice] = field(default_factory=list)
    kept: list[Lookup] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def tune(
    cases: Sequence[Case],
    spaces: Mapping[str, Space],
    *,
    machine: Machine,
    bench: Caller,
    compile: Compile,
    budget: Budget,
    say: Callable[[str], None],
) -> Tuned:
    """Find for every shape class that `cases` ask for the fastest of `spaces`' candidates that is right.

    bench:    calls `TuningBench.trial`
    compile:  compiles all candidates on all cores, and gives their resources
    """
    tuned = Tuned()
    runnable = [case for case in cases if machine.capability >= case.needs]
    questions = questions_of(runnable, machine.target, spaces, tuned.notes)
    say(f"{len(questions)} shape classes")
    for first in range(0, len(questions), _QUESTIONS_AT_ONCE):
        batch = questions[first : first + _QUESTIONS_AT_ONCE]
        if budget.is_spent:
            tuned.notes += [f"{question.name}: not reached in time" for question in batch]
            continue
        work = work_of(batch, machine.target)
        unfit = prune(batch, work, compile(work), machine.shared_bytes)
        tuned.notes += unfit
        say(f"compiled {len(work)} times, {len(unfit)} candidates do not fit; {budget.used_s:.0f} s are gone")
        for question in batch:
            _settle(question, bench, budget, tuned, say)
    return tuned


def _settle(question: Question, bench: Caller, budget: Budget, tuned: Tuned, say: Callable[[str], None]) -> None:
    """Time a shape class's candidates and choose one, or keep the shipped parameters."""
    times = _time_all(question, bench, budget, tuned.notes)
    best = winner(times, question.cases)
    if best is None or budget.is_spent:
        tuned.kept.append(question.lookup)
        tuned.notes.append(f"{question.name}: {'no time for a decision' if best else 'no candidate was timed'}")
        return
    duel = _fight(question, question.candidates[best], bench, tuned.notes)
    say(f"{question.name}: {best} takes {duel.relative_time:.3f} of the shipped time, noise {duel.noise:.3f}")
    if duel.is_won and all(seconds < math.inf for seconds in duel.best_s.values()):
        tuned.choices.append(Choice(question.lookup, question.candidates[best], duel, len(times)))
    else:
        tuned.kept.append(question.lookup)


def _time_all(question: Question, bench: Caller, budget: Budget, notes: list[str]) -> dict[str, dict[str, float]]:
    """Seconds by candidate and case; after the first case, only of the candidates that are not far behind."""
    times: dict[str, dict[str, float]] = {}
    running = dict(question.candidates)
    for case_id in question.cases:
        for key, parameters in running.items():
            if budget.is_spent:
                notes.append(f"{question.name}: stopped before {key} ({case_id})")
                return times
            seconds = _trial(bench, case_id, question.lookup, parameters, notes)
            if seconds < math.inf:
                times.setdefault(key, {})[case_id] = seconds
        best = min((by_case[case_id] for by_case in times.values() if case_id in by_case), default=math.inf)
        running = {
            key: parameters
            for key, parameters in running.items()
            if times.get(key, {}).get(case_id, math.inf) <= _FAR_BEHIND * best
        }
    return times


def _fight(question: Question, best: Parameters, bench: Caller, notes: list[str]) -> Duel:
    """Shipped and best in turn, several rounds a case: drifting clocks meet both alike."""
    shipped_s, best_s, noises = {}, {}, []
    for case_id in question.cases:
        rounds = [
            (
                _trial(bench, case_id, question.lookup, question.shipped, notes),
                _trial(bench, case_id, question.lookup, best, notes),
            )
            for _ in range(_ROUNDS)
        ]
        shipped, challenger = (list(column) for column in zip(*rounds, strict=True))
        shipped_s[case_id], best_s[case_id] = statistics.median(shipped), statistics.median(challenger)
        for column in (shipped, challenger):
            if max(column) < math.inf:
                noises.append((max(column) - min(column)) / (2 * statistics.median(column)))
    return Duel(shipped_s, best_s, statistics.median(noises) if noises else 0.0)


def _trial(bench: Caller, case_id: str, lookup: Lookup, parameters: Parameters, notes: list[str]) -> float:
    """Seconds, or infinity where there is no right result, which is noted."""
    trial: Trial | Failure = bench.call("trial", case_id, lookup, parameters, timeout_s=_TRIAL_TIMEOUT_S)
    if isinstance(trial, Failure):
        notes.append(f"{lookup.op} ({lookup.shape_class}) {key_of(parameters)}: {trial.message} ({case_id})")
        return math.inf
    if not trial.excess <= 1.0:
        notes.append(
            f"{lookup.op} ({lookup.shape_class}) {key_of(parameters)}: wrong, an element is {trial.excess:.3g} times "
            f"as far off as allowed ({case_id})"
        )
        return math.inf
    return trial.timing.median_s
