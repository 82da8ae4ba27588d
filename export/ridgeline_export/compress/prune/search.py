"""How many units each layer keeps: the most important ones that a cost allows.

Every layer's heads and every layer's channels are a slot, which keeps its most important units, in steps. Which number
each slot keeps is a knapsack problem with one choice a slot; it is solved by a price for cost (Lagrange multiplier:
Everett, "Generalized Lagrange Multiplier Method", Operations Research 11, 1963): at a given price every slot chooses
what is worth the most by itself, and the price is found by bisection at which the whole model just fits. No other
choice of the same cost is worth more. What room is left then is filled unit by unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Each halves the interval of prices: more would not change a float64.
_HALVINGS = 80
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Slot:
    """What one decision is about.

    counts: numbers of units that may be kept, ascending
    worth:  [len(counts)] of keeping the most important ones, that many
    costs:  [len(counts)] of keeping that many, in any unit; differences alone matter
    """

    counts: tuple[int, ...]
    worth: Vector
    costs: Vector


def make_slot(importance: Vector, counts: Sequence[int], costs: Sequence[float]) -> Slot:
    """A slot of units with these importances, [units] in any order, which add up."""
    sums = np.concatenate(([0.0], np.cumsum(np.sort(importance)[::-1])))
    return Slot(tuple(counts), sums[list(counts)], np.asarray(costs, dtype=np.float64))


def search(slots: Sequence[Slot], cost: Callable[[tuple[int, ...]], float], limit: float) -> tuple[int, ...] | None:
    """How many units each slot keeps, of its `counts`, so that the whole model costs at most `limit`.

    cost: of the whole model, when its slots keep so many units; the slots' own costs only guide the search
    returns None when even the fewest units of each slot cost more than that
    """
    known: dict[tuple[int, ...], float] = {}

    def fits(choice: Sequence[int]) -> bool:
        counts = tuple(slot.counts[at] for slot, at in zip(slots, choice, strict=True))
        if counts not in known:
            known[counts] = cost(counts)
        return known[counts] <= limit * (1 + _ROUNDING)

    rates = [_rates(slot) for slot in slots]
    choice = [len(slot.counts) - 1 for slot in slots]
    if not fits(choice):
        if not fits([0] * len(slots)):
            return None
        choice = _fill(slots, rates, _priced(slots, rates, fits), fits)
    return tuple(slot.counts[at] for slot, at in zip(slots, choice, strict=True))


def _priced(slots: Sequence[Slot], rates: Sequence[Vector], fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """The dearest choice that fits, of those that some price leads to."""
    bound = 1.0 + 2 * max((float(np.abs(rate).max(initial=0.0)) for rate in rates), default=0.0)
    low, high = -bound, bound
    choice = [0] * len(slots)
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        tried = [int(np.argmax(slot.worth - price * slot.costs)) for slot in slots]
        if fits(tried):
            choice, high = tried, price
        else:
            low = price
    return choice


def _fill(
    slots: Sequence[Slot], rates: Sequence[Vector], choice: list[int], fits: Callable[[Sequence[int]], bool]
) -> list[int]:
    """Take one step more wherever it fits, the most worth for its cost first; of equals, where the least is kept."""
    closed: set[int] = set()
    while True:
        steps = [
            (float(rate[at]), -at / len(rate), -number)
            for number, (rate, at) in enumerate(zip(rates, choice, strict=True))
            if number not in closed and at < len(rate)
        ]
        if not steps:
            return choice
        number = -max(steps)[2]
        choice = [at + (place == number) for place, at in enumerate(choice)]
        if not fits(choice):
            choice = [at - (place == number) for place, at in enumerate(choice)]
            closed.add(number)


def _rates(slot: Slot) -> Vector:
    """Worth per cost of each step to the next count; steps that cost nothing are worth the most."""
    steps = np.diff(slot.costs)
    least = max(float(steps.max(initial=0.0)) * _ROUNDING, float(np.finfo(np.float64).tiny))
    return np.asarray(np.diff(slot.worth) / np.maximum(steps, least))
