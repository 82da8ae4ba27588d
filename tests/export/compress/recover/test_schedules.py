"""Schedules against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from ridgeline_export.compress.recover.schedules import make_schedule
from ridgeline_export.compress.training import SCHEDULES, Training

STEPS, WARMUP = 40, 8
REST = STEPS - WARMUP
FORMULAS: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "exponential": lambda t: 0.1**t,
    "step": lambda t: 0.1 ** math.floor(round(t * 5, 6)),
    "cyclic": lambda t: 0.1 + 0.9 * (1 - abs(1 - 2 * (t * 4 % 1))),
}


def rates_of(schedule: str, warmup: float) -> list[list[float]]:
    """Rates of two groups, one of them at half the rate."""
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [weights[0]], "lr": 2.0}, {"params": [weights[1]], "lr": 1.0}]
    optimizer = torch.optim.SGD(groups)
    scheduler = make_schedule(optimizer, Training(schedule=schedule, warmup=warmup), STEPS)
    rates = []
    for _ in range(STEPS):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


def test_every_schedule_is_tested() -> None:
    assert {*FORMULAS, "one-cycle"} == set(SCHEDULES)


@pytest.mark.parametrize("schedule", FORMULAS)
def test_rates_follow_the_formula_after_a_linear_warmup(schedule: str) -> None:
    rates = rates_of(schedule, WARMUP / STEPS)

    begin = FORMULAS[schedule](0.0)
    expected = [begin * (step + 1) / WARMUP for step in range(WARMUP)]
    expected += [FORMULAS[schedule](step / REST) for step in range(REST)]
    assert [rate / 2 for rate, _ in rates] == pytest.approx(expected, abs=1e-6)
    assert [half * 2 for _, half in rates] == pytest.approx([rate for rate, _ in rates])


@pytest.mark.parametrize("schedule", FORMULAS)
def test_without_warmup_the_formula_begins_at_once(schedule: str) -> None:
    expected = [2 * FORMULAS[schedule](step / STEPS) for step in range(STEPS)]
    assert [rate for rate, _ in rates_of(schedule, 0.0)] == pytest.approx(expected, abs=1e-6)


def test_one_cycle_rises_and_falls_below_where_it_began() -> None:
    rates = [rate for rate, _ in rates_of("one-cycle", WARMUP / STEPS)]
    highest = rates.index(max(rates))

    assert rates[WARMUP - 1] == pytest.approx(2 / 25) and max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates == sorted(rates[: highest + 1]) + sorted(rates[highest + 1 :], reverse=True)
    assert (highest - WARMUP) / REST == pytest.approx(0.3, abs=0.05) and rates[-1] < 1e-4


def test_one_step_alone_is_made_at_the_full_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    make_schedule(optimizer, Training(warmup=0.9), 1)
    assert optimizer.param_groups[0]["lr"] == 1.0
