"""Few cases in which every two choices meet."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any


def pairwise_cases(choices: Mapping[str, Sequence[Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Cases, one value of each choice in each, such that any two values of two choices occur together in one.

    Greedy: the next case is the best of a few random ones, until no pair is missing.
    """
    rng = random.Random(seed)
    names = list(choices)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(choices[a]))
        for j in range(len(choices[b]))
    }
    found: list[dict[str, Any]] = []
    while missing:
        (a, i), (b, j) = min(missing)
        candidates = []
        for _ in range(20):
            indexes = {name: rng.randrange(len(choices[name])) for name in names} | {a: i, b: j}
            candidates.append((len(_pairs(indexes) & missing), indexes))
        best = max(candidates, key=lambda candidate: candidate[0])[1]
        missing -= _pairs(best)
        found.append({name: choices[name][index] for name, index in best.items()})
    return found


def _pairs(indexes: Mapping[str, int]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    return set(itertools.combinations(indexes.items(), 2))
