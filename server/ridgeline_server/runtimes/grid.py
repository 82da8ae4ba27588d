"""The fixed grid of shapes that padded runtimes execute.

Runtimes keep scratch memory and kernels per input shape, so a free choice of shapes makes memory grow with traffic.
A grid of at most MAX_SHAPES bounds it, and every shape can be run once before the server is ready.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

MAX_SHAPES = 16
# (rows, length) of an executed batch.
Shape = tuple[int, int]
_SHORTEST = 16
_SOME_ROWS = 4
# A call costs about as much as this many tokens before it computes anything.
CALL_OVERHEAD_TOKENS = 16


@dataclass(frozen=True, slots=True)
class ShapeGrid:
    """Shapes [rows, length] that a padded runtime executes.

    lengths: ascending; the last one is the longest sequence that the model takes
    rows:    for each length, the row counts to choose from, ascending, the first of them 1
    """

    lengths: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Every [rows, length] of the grid."""
        return [(rows, length) for length, choices in zip(self.lengths, self.rows, strict=True) for rows in choices]

    def bucket(self, length: int) -> int:
        """Index of the smallest grid length that holds a sequence of `length` tokens.

        Raises ValueError when the sequence is longer than the grid's longest.
        """
        index = bisect_left(self.lengths, length)
        if index == len(self.lengths):
            raise ValueError(f"a sequence of {length} tokens does not fit a grid up to {self.lengths[-1]}")
        return index

    def best_rows(self, bucket: int, waiting: int) -> int:
        """Row count that serves most sequences per executed token, when `waiting` of this bucket wait."""
        length = self.lengths[bucket]
        return max(self.rows[bucket], key=lambda rows: (min(rows, waiting) / _cost_tokens(rows, length), rows))

    def fit(self, sequences: int, longest: int) -> tuple[int, int]:
        """Smallest shape (rows, length) of the grid that holds so many sequences of up to `longest` tokens.

        Raises ValueError when none does.
        """
        bucket = self.bucket(longest)
        for rows in self.rows[bucket]:
            if rows >= sequences:
                return rows, self.lengths[bucket]
        raise ValueError(f"{sequences} sequences of up to {longest} tokens do not fit the grid")


def make_grid(max_tokens: int, max_batch_tokens: int) -> ShapeGrid:
    """A grid for sequences up to `max_tokens` whose shapes hold at most `max_batch_tokens`, or one sequence.

    Every grid has the powers of two, one row each. What else fits under MAX_SHAPES comes in the order of what it saves
    on texts, most of which are short: full batches of short lengths, lengths half-way between, batches of four.
    Raises ValueError when either argument is not positive.
    """
    if max_tokens < 1 or max_batch_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens} and max_batch_tokens {max_batch_tokens} must be at least 1")
    lengths = _powers_of_two(max_tokens)
    while len(lengths) > MAX_SHAPES:
        del lengths[1]
    shapes = {(1, length) for length in lengths}
    for extra in _extras(lengths, max_batch_tokens):
        if len(shapes | extra) <= MAX_SHAPES:
            shapes |= extra
    kept = sorted({length for _, length in shapes})
    return ShapeGrid(tuple(kept), tuple(tuple(sorted(r for r, n in shapes if n == length)) for length in kept))


def _extras(lengths: list[int], max_batch_tokens: int) -> Iterator[set[tuple[int, int]]]:
    """Shapes to add beside single rows of `lengths`, each set as a whole, the most useful first."""
    for length in lengths:
        yield _full_batch(length, max_batch_tokens)
    for shorter, longer in pairwise(lengths):
        middle = (shorter + longer) // 2
        if shorter < middle < longer:
            yield {(1, middle)} | _full_batch(middle, max_batch_tokens)
    for length in lengths:
        if max_batch_tokens // length >= 2 * _SOME_ROWS:
            yield {(_SOME_ROWS, length)}


def _full_batch(length: int, max_batch_tokens: int) -> set[tuple[int, int]]:
    """The shape of as many rows as the budget holds, where the call's overhead makes that worth a shape."""
    rows = max_batch_tokens // length
    return {(rows, length)} if rows >= _SOME_ROWS else set()


def _cost_tokens(rows: int, length: int) -> int:
    return rows * length + CALL_OVERHEAD_TOKENS


def _powers_of_two(max_tokens: int) -> list[int]:
    lengths = []
    length = _SHORTEST
    while length < max_tokens:
        lengths.append(length)
        length *= 2
    return [*lengths, max_tokens]
