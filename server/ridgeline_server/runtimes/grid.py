"""The fixed grid of shapes that padded runtimes execute.

Runtimes keep scratch memory and kernels per input shape, so a free choice of shapes makes memory grow with traffic.
A grid of at most MAX_SHAPES bounds it, and every shape can be run once before the server is ready.

The shapes chosen are those that cost the expected traffic least. Traffic is sequences of some length, of which some
number waits together (the depth). Served by a shape, a sequence costs (overhead + rows · length) / min(rows, depth)
token times; a grid costs each sequence its cheapest shape, over what it would cost without padding. Every doubling of
the length can run alone, for the sake of a lone request's latency. The other shapes are picked one by one, each the one
that lowers the mean most, then each is replaced while another one in its place is better.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ridgeline_server.sequences import Int32Array

# (rows, length) of an executed batch; a packed one is a single row.
Shape = tuple[int, int]
Costs = npt.NDArray[np.float64]

MAX_SHAPES = 16
_SHORTEST = 16
_SHORTEST_ALONE = 32
_LENGTHS_PER_OCTAVE = 4
_SHORTEST_TEXT = 8
_TYPICAL_LONGEST_TEXT = 256
_LEAST_DEPTH, _MOST_DEPTH = 4, 128
_REPLACEMENT_ROUNDS = 3
# A call of a CPU runtime with another shape than the last costs as much as this many tokens before it computes.
CALL_OVERHEAD_TOKENS = 60


class Grid(Protocol):
    """The few shapes that batches are executed, timed and reported as.

    shapes:      all of them
    lengths:     the lengths of the shapes, each once, ascending
    most_tokens: of the largest shape
    is_packed:   sequences lie end to end in one row, so that a shape says how many tokens there are and nothing of
                 their lengths; else each sequence has a row to itself
    """

    @property
    def shapes(self) -> tuple[Shape, ...]: ...

    @property
    def lengths(self) -> tuple[int, ...]: ...

    @property
    def most_tokens(self) -> int: ...

    @property
    def is_packed(self) -> bool: ...

    def shape_of(self, lengths: Sequence[int] | Int32Array) -> Shape:
        """The smallest shape that holds sequences of these lengths; raises ValueError when none does."""
        ...

    def full_lengths(self, shape: Shape) -> list[int]:
        """Lengths of sequences that fill a shape to the last token."""
        ...


@dataclass(frozen=True)
class ShapeGrid:
    """Shapes (rows, length) that a padded runtime executes, in any order; the longest holds every sequence."""

    shapes: tuple[Shape, ...]

    @property
    def is_packed(self) -> bool:
        return False

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the shapes, each once, ascending."""
        return tuple(sorted({length for _, length in self.shapes}))

    @cached_property
    def most_tokens(self) -> int:
        """Tokens of the largest shape."""
        return max(rows * length for rows, length in self.shapes)

    def shape_of(self, lengths: Sequence[int] | Int32Array) -> Shape:
        """As `fit`, for sequences of these lengths."""
        return self.fit(len(lengths), int(max(lengths) if isinstance(lengths, Sequence) else lengths.max()))

    def full_lengths(self, shape: Shape) -> list[int]:
        """As many sequences as the shape has rows, all as long as these."""
        rows, length = shape
        return [length] * rows

    def bucket(self, length: int) -> int:
        """Index of the smallest grid length that holds a sequence of `length` tokens.

        Raises ValueError when the sequence is longer than the grid's longest.
        """
        index = bisect_left(self.lengths, length)
        if index == len(self.lengths):
            raise ValueError(f"a sequence of {length} tokens does not fit a grid up to {self.lengths[-1]}")
        return index

    def fit(self, sequences: int, longest: int) -> Shape:
        """The shape of fewest tokens that holds so many sequences of up to `longest` tokens.

        Raises ValueError when none does.
        """
        key = sequences, self.bucket(longest)
        shape = self._fits.get(key)
        if shape is None:
            fitting = [shape for shape in self.shapes if shape[0] >= sequences and shape[1] >= longest]
            if not fitting:
                raise ValueError(f"{sequences} sequences of up to {longest} tokens do not fit the grid")
            shape = self._fits[key] = min(fitting, key=lambda shape: (shape[0] * shape[1], shape[1]))
        return shape

    @cached_property
    def _fits(self) -> dict[tuple[int, int], Shape]:
        """What `fit` found, by sequences and bucket."""
        return {}


def make_grid(max_tokens: int, max_batch_tokens: int, call_overhead_tokens: int = CALL_OVERHEAD_TOKENS) -> ShapeGrid:
    """A grid for sequences up to `max_tokens` whose shapes hold at most `max_batch_tokens`, or one sequence.

    Raises ValueError when an argument is not positive.
    """
    if max_tokens < 1 or max_batch_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens} and max_batch_tokens {max_batch_tokens} must be at least 1")
    traffic = _Traffic(max_tokens, max_batch_tokens, call_overhead_tokens)
    candidates = {shape: traffic.cost(shape) for shape in _candidates(max_tokens, max_batch_tokens)}
    alone = _alone(max_tokens)
    chosen = _pick(alone, candidates, traffic)
    for _ in range(_REPLACEMENT_ROUNDS):
        for shape in chosen[len(alone) :]:
            chosen = _pick([kept for kept in chosen if kept != shape], candidates, traffic)
    return ShapeGrid(tuple(sorted(chosen, key=lambda shape: (shape[1], shape[0]))))


class _Traffic:
    """Expected sequences: every octave of lengths up to _TYPICAL_LONGEST_TEXT brings its share of tokens."""

    def __init__(self, max_tokens: int, max_batch_tokens: int, overhead: int) -> None:
        lengths = np.geomspace(min(_SHORTEST_TEXT, max_tokens), max_tokens, 64).astype(int)
        deepest = int(np.clip(max_batch_tokens // _SHORTEST, _LEAST_DEPTH, _MOST_DEPTH))
        self._lengths = lengths[:, None]
        self._depths = 2 ** np.arange(_LEAST_DEPTH.bit_length() - 1, deepest.bit_length())[None, :]
        self._overhead = overhead
        most_rows = np.maximum(max_batch_tokens // self._lengths, 1)
        unpadded = self._lengths + overhead / np.minimum(self._depths, most_rows)
        self._weights = np.minimum(self._lengths, _TYPICAL_LONGEST_TEXT) / unpadded

    def cost(self, shape: Shape) -> Costs:
        """Token times per sequence, [lengths, depths]; infinite where the shape is too short."""
        rows, length = shape
        costs = (self._overhead + rows * length) / np.minimum(rows, self._depths)
        return np.where(self._lengths > length, np.inf, costs)

    def mean(self, costs: Costs) -> float:
        return float((self._weights * costs).sum())


def _candidates(max_tokens: int, max_batch_tokens: int) -> list[Shape]:
    shapes = set()
    for length in _candidate_lengths(max_tokens):
        most = max(1, max_batch_tokens // length)
        rows = {1, 2, 3, 4, 6, *(2**power for power in range(3, most.bit_length())), most}
        shapes |= {(count, length) for count in rows if count <= most}
    return sorted(shapes)


def _candidate_lengths(max_tokens: int) -> list[int]:
    lengths = []
    length = _SHORTEST
    while length < max_tokens:
        lengths.append(length)
        octave = 1 << (length.bit_length() - 1)
        length += max(8, octave // _LENGTHS_PER_OCTAVE)
    return [*lengths, max_tokens]


def _alone(max_tokens: int) -> list[Shape]:
    lengths = [max_tokens]
    length = _SHORTEST_ALONE
    while length < max_tokens and len(lengths) < MAX_SHAPES:
        lengths.append(length)
        length *= 2
    return [(1, length) for length in lengths]


def _pick(chosen: list[Shape], candidates: dict[Shape, Costs], traffic: _Traffic) -> list[Shape]:
    best = np.minimum.reduce([traffic.cost(shape) for shape in chosen])
    while len(chosen) < min(MAX_SHAPES, len(candidates)):
        left = [shape for shape in candidates if shape not in chosen]
        chosen = [*chosen, min(left, key=lambda shape: traffic.mean(np.minimum(best, candidates[shape])))]
        best = np.minimum(best, candidates[chosen[-1]])
    return chosen
