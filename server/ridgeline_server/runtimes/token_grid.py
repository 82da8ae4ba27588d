"""Buckets of total tokens, which packed runtimes execute: sequences of any lengths laid end to end, without padding.

A CUDA graph is of one number of tokens, so that a batch runs in a bucket that holds it; what is left of the bucket
belongs to no sequence. Each doubling has four buckets: few graphs cover all sizes, and at most a fifth of one is left.
Runtimes without graphs execute just the batch's tokens: there a bucket only says under which size a batch's seconds are
kept, and its figures reported.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.sequences import Int32Array

# Smaller steps would save no time: a matrix product computes whole tiles of rows.
_FIRST = (16, 32, 64, 96, 128, 192, 256)
_STEPS = 4
# Buckets are filled with sequences of about this length, when they are timed and predicted.
_TYPICAL_TEXT = 64


@dataclass(frozen=True)
class TokenGrid:
    """Numbers of tokens that a packed runtime executes at once.

    buckets: ascending; the last one holds the longest sequence
    typical: length of the sequences that a bucket is filled with to time it
    """

    buckets: tuple[int, ...]
    typical: int = _TYPICAL_TEXT

    @property
    def is_packed(self) -> bool:
        return True

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Each bucket as a single row."""
        return tuple((1, bucket) for bucket in self.buckets)

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.buckets

    @property
    def most_tokens(self) -> int:
        return self.buckets[-1]

    def bucket(self, tokens: int) -> int:
        """The smallest bucket that holds so many tokens; raises ValueError when none does."""
        index = bisect_left(self.buckets, tokens)
        if index == len(self.buckets):
            raise ValueError(f"{tokens} tokens do not fit a grid up to {self.most_tokens}")
        return self.buckets[index]

    def shape_of(self, lengths: Sequence[int] | Int32Array) -> Shape:
        """The smallest bucket that holds all their tokens, as a row; raises ValueError when none does."""
        return 1, self.bucket(int(sum(lengths) if isinstance(lengths, Sequence) else lengths.sum()))

    def full_lengths(self, shape: Shape) -> list[int]:
        """Typical sequences, and one of what is left."""
        whole, rest = divmod(shape[1], self.typical)
        return [self.typical] * whole + [rest] * (rest > 0)


def make_token_grid(max_tokens: int, max_batch_tokens: int) -> TokenGrid:
    """Buckets up to `max_batch_tokens`, or to `max_tokens`, which one sequence may have, where that is more.

    Raises ValueError when an argument is not positive.
    """
    if max_tokens < 1 or max_batch_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens} and max_batch_tokens {max_batch_tokens} must be at least 1")
    most = max(max_tokens, max_batch_tokens)
    buckets = list(_FIRST)
    while buckets[-1] < most:
        doubling = 1 << (buckets[-1].bit_length() - 1)
        buckets.append(buckets[-1] + doubling // _STEPS)
    buckets = [bucket for bucket in buckets if bucket < most]
    return TokenGrid((*buckets, most), typical=min(_TYPICAL_TEXT, max_tokens))
