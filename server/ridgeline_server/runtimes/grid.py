"""The fixed grid of shapes that padded runtimes execute.

Runtimes keep scratch memory and kernels per input shape, so a free choice of shapes makes memory grow with traffic.
A grid of at most MAX_SHAPES bounds it, and every shape can be run once before the server is ready.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

MAX_SHAPES = 16
_SHORTEST = 16
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

    Lengths are powers of two; with shapes left under MAX_SHAPES, lengths half-way between are added, shortest first,
    because most texts are short. Raises ValueError when either argument is not positive.
    """
    if max_tokens < 1 or max_batch_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens} and max_batch_tokens {max_batch_tokens} must be at least 1")
    lengths = _powers_of_two(max_tokens)
    rows = {length: _row_choices(length, max_batch_tokens) for length in lengths}
    while sum(map(len, rows.values())) > MAX_SHAPES:
        _drop_one(rows)
    for shorter, longer in pairwise(lengths):
        middle = (shorter + longer) // 2
        choices = tuple(sorted({1, max(1, max_batch_tokens // middle)}))
        if shorter < middle < longer and sum(map(len, rows.values())) + len(choices) <= MAX_SHAPES:
            rows[middle] = choices
    ordered = sorted(rows.items())
    return ShapeGrid(tuple(length for length, _ in ordered), tuple(choices for _, choices in ordered))


def _cost_tokens(rows: int, length: int) -> int:
    return rows * length + CALL_OVERHEAD_TOKENS


def _powers_of_two(max_tokens: int) -> list[int]:
    lengths = []
    length = _SHORTEST
    while length < max_tokens:
        lengths.append(length)
        length *= 2
    return [*lengths, max_tokens]


def _row_choices(length: int, max_batch_tokens: int) -> tuple[int, ...]:
    most = max(1, max_batch_tokens // length)
    some = (4,) if most >= 8 else ()
    return tuple(sorted({1, *some, most}))


def _drop_one(rows: dict[int, tuple[int, ...]]) -> None:
    """Make room: take the middle row count of the longest length that has one, else its largest, else the length."""
    for wanted in (3, 2):
        for length in sorted(rows, reverse=True):
            if len(rows[length]) == wanted:
                rows[length] = rows[length][:1] + rows[length][2:] if wanted == 3 else rows[length][:1]
                return
    del rows[sorted(rows)[1]]
