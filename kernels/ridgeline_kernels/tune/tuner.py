"""The search: compile everything, time the candidates, let the winner fight the shipped parameters once more."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ridgeline_kernels.cases.case import Case
from ridgeline_kernels.compilation.ahead import Work
from ridgeline_kernels.compilation.sweep import Lookup, Swept
from ridgeline_kernels.measuring.budget import Budget
from ridgeline_kernels.measuring.machine import Machine
from ridgeline_kernels.measuring.worker import Caller, Failure
from ridgeline_kernels.tune.bench import Trial
from ridgeline_kernels.tune.choosing import Duel, winner
from ridgeline_kernels.tune.plan import Question, key_of, prune, questions_of, work_of
from ridgeline_kernels.tune.spaces import Parameters, Space

_TRIAL_TIMEOUT_S = 30.0
_SHARE_FOR_DUELS = 0.2
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
    compile: Callable[[Sequence[Work]], list[Swept]],
    budget: Budget,
    say: Callable[[str], None],
) -> Tuned:
    """Find for every shape class that `cases` ask for the fastest of `spaces`' candidates that is right.

    bench:    calls `TuningBench.trial`
    compile:  compiles all candidates on all cores, and gives their resources
    """
    tuned = Tuned()
    runnable = [case for case in cases if machine.capability >= case.needs]
    questions = questions_of(runnable, machine.target, spaces)
    work = work_of(questions, machine.target)
    say(f"{len(questions)} shape classes; compiling {len(work)} times")
    tuned.notes += prune(questions, work, compile(work), machine.shared_bytes)
    say(f"compiled in {budget.used_s:.0f} s; {len(tuned.notes)} candidates do not fit")
    times = _time_all(questions, bench, budget, tuned)
    for question in questions:
        _decide(question, times[question.lookup], bench, budget, tuned, say)
    return tuned


def _time_all(
    questions: Sequence[Question], bench: Caller, budget: Budget, tuned: Tuned
) -> dict[Lookup, dict[str, dict[str, float]]]:
    """Seconds by shape class, candidate and case; the cases' order keeps each one's inputs while they are needed."""
    times: dict[Lookup, dict[str, dict[str, float]]] = {question.lookup: {} for question in questions}
    for case_id in dict.fromkeys(case_id for question in questions for case_id in question.cases):
        for question in questions:
            if case_id not in question.cases:
                continue
            for key, parameters in question.candidates.items():
                if budget.left_s <= _SHARE_FOR_DUELS * budget.seconds:
                    tuned.notes.append(f"{_name(question)} {key}: not reached in time ({case_id})")
                    continue
                seconds = _trial(bench, case_id, question.lookup, parameters, tuned.notes)
                if seconds < math.inf:
                    times[question.lookup].setdefault(key, {})[case_id] = seconds
    return times


def _decide(
    question: Question,
    times: Mapping[str, Mapping[str, float]],
    bench: Caller,
    budget: Budget,
    tuned: Tuned,
    say: Callable[[str], None],
) -> None:
    best = winner(times, question.cases)
    if best is None or budget.is_spent:
        tuned.kept.append(question.lookup)
        tuned.notes.append(f"{_name(question)}: {'no time for a decision' if best else 'no candidate was timed'}")
        return
    duel = _fight(question, question.candidates[best], bench, tuned.notes)
    say(f"{_name(question)}: {best} takes {duel.relative_time:.3f} of the shipped time, noise {duel.noise:.3f}")
    if duel.is_won and all(seconds < math.inf for seconds in duel.best_s.values()):
        tuned.choices.append(Choice(question.lookup, question.candidates[best], duel, len(times)))
    else:
        tuned.kept.append(question.lookup)


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


def _name(question: Question) -> str:
    return f"{question.lookup.op} ({question.lookup.shape_class})"
