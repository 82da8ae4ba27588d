"""From which length an efficient attention needs fewer FLOPs than exact attention."""

from __future__ import annotations

from collections.abc import Callable

from ridgeline_kernels.errors import ArgumentError

LONGEST = 2**24
"""Lengths past this are not looked at."""


def crossover_length(exact: Callable[[int], int], approximate: Callable[[int], int]) -> int:
    """The least length from which `approximate(length)` FLOPs are fewer than `exact(length)`, and stay so.

    exact, approximate: FLOPs of one sequence by its length, as `attention_flops` has them. They may rise in steps,
    as with blocks: every length from the result to the first power of two where `approximate` wins has been compared.
    A win is taken to last from there.

    Raises ArgumentError if `approximate` wins at no power of two up to 2^24 tokens.
    """
    length = 1
    while approximate(length) >= exact(length):
        length *= 2
        if length > LONGEST:
            raise ArgumentError(
                f"approximate needs as many FLOPs as exact attention or more at every power of two up to {LONGEST:,} "
                "tokens; take a smaller rank, block or number of rounds"
            )
    while length > 1 and approximate(length - 1) < exact(length - 1):
        length -= 1
    return length
