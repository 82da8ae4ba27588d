"""Which sizes of batches get a CUDA graph of their own.

A graph is of one shape, so a batch runs in the graph of a *bucket* that is no smaller: its tokens are padded with rows
that belong to no sequence, its sequences with empty ones. Two numbers make a bucket:

    tokens     16, 32, 64, 96, 128, 192, 256 and then four steps to each doubling: at most a quarter more tokens than
               the step before, 9 % more rows than tokens on average; multiples of 64 from 128 on, of 128 from 512 on
    sequences  what these tokens hold at a few mean lengths. Grids grow with this number, every program of attention and
               pooling looks through the bounds, and attention takes its tiles by tokens // sequences, with edges above
               32 and 128: so a batch of long texts must not run in a bucket that has room for as many short ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ridgeline_kernels.errors import ArgumentError

MEAN_LENGTHS = (129, 64, 33, 12, 3)
"""Tokens a sequence in the buckets of one size; from 129 and from 33 on attention takes the next larger tiles. Labels
of one word have 3: below that, large batches run without a graph."""

_FIRST_TOKENS = (16, 32, 64, 96, 128, 192, 256)
_STEPS = 4
_SMALL_TOKENS = 1024
_LARGEST_PADDING = 2.0


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """Room for this many tokens in this many sequences."""

    tokens: int
    sequences: int

    def fits(self, tokens: int, sequences: int) -> bool:
        """Whether a batch has room in it."""
        return tokens <= self.tokens and sequences <= self.sequences


def token_steps(max_tokens: int) -> tuple[int, ...]:
    """Ascending numbers of tokens, the last one at least `max_tokens`.

    Raises ArgumentError if max_tokens is below 1.
    """
    if max_tokens < 1:
        raise ArgumentError(f"max_tokens is {max_tokens}; a bucket holds at least one token")
    unit = 16 if max_tokens <= 64 else 64
    last = -(-max_tokens // unit) * unit
    steps = list(_FIRST_TOKENS)
    while steps[-1] < last:
        doubling = 1 << (steps[-1].bit_length() - 1)
        steps.append(steps[-1] + doubling // _STEPS)
    return (*(step for step in steps if step < last), last)


def make_buckets(
    max_tokens: int, *, max_sequences: int | None = None, mean_lengths: Sequence[int] = MEAN_LENGTHS
) -> tuple[Bucket, ...]:
    """Buckets for every batch of up to `max_tokens` tokens, in ascending order; about 20 for each doubling of tokens.

    max_sequences: the most that a batch has; None for as many as the shortest mean length allows
    mean_lengths:  tokens a sequence, of the buckets that share a number of tokens

    Raises ArgumentError if a number is below 1.
    """
    if min((max_sequences if max_sequences is not None else 1, *mean_lengths)) < 1 or not mean_lengths:
        raise ArgumentError(
            f"max_sequences is {max_sequences} and mean_lengths is {tuple(mean_lengths)}; give numbers of 1 and more"
        )
    most = max_tokens if max_sequences is None else max_sequences
    rooms = buckets_of(token_steps(max_tokens), mean_lengths)
    return tuple(sorted({Bucket(room.tokens, min(room.sequences, most)) for room in rooms}))


def buckets_of(tokens: Iterable[int], mean_lengths: Sequence[int] = MEAN_LENGTHS) -> tuple[Bucket, ...]:
    """Buckets of these numbers of tokens, each with room for sequences of the mean lengths, in ascending order."""
    return tuple(sorted({Bucket(step, max(step // length, 1)) for step in tokens for length in mean_lengths}))


class BucketTable:
    """Finds the bucket of a batch."""

    def __init__(self, buckets: Iterable[Bucket]):
        self.buckets = tuple(sorted(set(buckets)))
        rooms: dict[int, list[Bucket]] = {}
        for bucket in self.buckets:
            rooms.setdefault(bucket.tokens, []).append(bucket)
        self._tokens = list(rooms)
        self._rooms = list(rooms.values())

    def choose(self, tokens: int, sequences: int) -> Bucket | None:
        """The bucket with the fewest tokens, then the fewest sequences, that has room for the batch.

        None if there is none, or only one of more than twice the tokens where that costs more than launching the
        kernels one by one: beyond 1,024 tokens.
        """
        most = max(tokens * _LARGEST_PADDING, _SMALL_TOKENS)
        for index in range(bisect_left(self._tokens, tokens), len(self._tokens)):
            if self._tokens[index] > most:
                return None
            for bucket in self._rooms[index]:
                if bucket.sequences >= sequences:
                    return bucket
        return None


def choose(buckets: Iterable[Bucket], tokens: int, sequences: int) -> Bucket | None:
    """See `BucketTable.choose`, for one question alone."""
    return BucketTable(buckets).choose(tokens, sequences)
