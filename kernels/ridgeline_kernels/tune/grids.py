"""How candidates are written: grids of choices, fitted to what a shape class says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

Parameters = Mapping[str, Any]
Space = Callable[[str], tuple[Parameters, ...]]
"""Shape class → candidates."""

WARPS = (1, 2, 4, 8, 16, 32)
THREADS_A_WARP = 32


def grid(**choices: tuple[Any, ...]) -> tuple[Parameters, ...]:
    """Every combination of the choices of each parameter."""
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def fixed(*grids: tuple[Parameters, ...]) -> Space:
    """The same candidates for every shape class."""
    candidates = tuple(candidate for each in grids for candidate in each)
    return lambda shape_class: candidates


def size_of(shape_class: str) -> int:
    """The first number of a shape class: 1024 of "dim<=1024"; 1024 where there is none."""
    found = re.search(r"\d+", shape_class)
    return int(found[0]) if found else 1024
