"""The measurement: every plan has its turn in every round, on the same texts and shapes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from ridgeline_server.measuring.errors import MeasuringError, PlanError
from ridgeline_server.measuring.figures import Measured
from ridgeline_server.measuring.process import PlanProcess
from ridgeline_server.measuring.spec import Spec
from ridgeline_server.measuring.turns import Residents, there_and_back
from ridgeline_server.runtimes.grid import Shape

# Plans stay loaded beside each other only in this share of the free memory.
_MEMORY = 0.5
_PROBE_TEXTS = 8
_TRIAL, _GROWTH = 0.25, 4
_LEAST_TEXTS, _MOST_TEXTS = 16, 4096
# Of a round, single texts and each shape take this share of the time of a pass; so often at least and at most.
_SHARE = 0.5
_LEAST_RUNS, _MOST_RUNS = 3, 50
# Loading runs every shape of the grid, of models of any size.
_PATIENCE_S = 900.0

# What is being done, of how many turns: (description, turns done, turns in all).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much each plan does in a round, all plans the same.

    texts: of a pass; alone: single texts; runs: of each shape
    """

    texts: int
    alone: int
    runs: dict[Shape, int]


def measure(plans: Sequence[Measured], spec: Spec, progress: Progress) -> Amounts:
    """Fill in what is measured of each plan. Raises MeasuringError when none of them runs.

    The first plan that runs sets how much each does, so that one of its passes takes about `pass_s`.
    """
    amounts: Amounts | None = None
    turns = spec.passes * len(plans)

    def start(plan: Measured) -> PlanProcess:
        return PlanProcess(plan.prepare, _PATIENCE_S)

    with Residents(start, _MEMORY * psutil.virtual_memory().available) as residents:
        for number in range(spec.passes):
            for index, plan in enumerate(there_and_back(plans, number)):
                if plan.failure is not None:
                    continue
                progress(f"{plan.wanted.name}, pass {number + 1}", number * len(plans) + index, turns)
                try:
                    with residents.visit(plan) as (process, is_new):
                        if amounts is None:
                            amounts = _amounts(process, plan, spec)
                        if is_new:
                            process.texts_per_s(amounts.texts)
                        _turn(process, plan, amounts, number)
                except PlanError as error:
                    plan.failure = f"{error}, in pass {number + 1}"
    if amounts is None:
        failures = "; ".join(f"{plan.wanted.name}: {plan.failure}" for plan in plans)
        raise MeasuringError(f"none of the plans runs: {failures}")
    return amounts


def _turn(process: PlanProcess, plan: Measured, amounts: Amounts, number: int) -> None:
    plan.texts_per_s[number] = process.texts_per_s(amounts.texts)
    plan.alone_s[number] = process.alone_s(number * amounts.alone, amounts.alone, _PATIENCE_S)
    for shape, runs in amounts.runs.items():
        process.shape_s(shape, 1)
        plan.shape_s.setdefault(shape, {})[number] = process.shape_s(shape, runs)
    plan.memory_bytes = max(plan.memory_bytes, process.memory_bytes)


def _amounts(process: PlanProcess, plan: Measured, spec: Spec) -> Amounts:
    """What fills a round, by a trial that grows until it takes a part of one."""
    most = min(len(plan.prepare.timed), _MOST_TEXTS)
    texts = min(most, _PROBE_TEXTS)
    process.texts_per_s(texts)
    rate = process.texts_per_s(texts)
    while texts < most and texts / rate < _TRIAL * spec.pass_s:
        texts = min(most, _GROWTH * texts)
        rate = process.texts_per_s(texts)
    alone_s = process.alone_s(0, _PROBE_TEXTS, spec.pass_s)

    def runs(seconds: float) -> int:
        return max(_LEAST_RUNS, min(_MOST_RUNS, int(_SHARE * spec.pass_s / seconds)))

    return Amounts(
        texts=min(most, max(_LEAST_TEXTS, int(rate * spec.pass_s))),
        alone=runs(statistics.mean(alone_s)),
        runs={shape: runs(min(process.shape_s(shape, 2))) for shape in spec.shapes},
    )
