"""Long sequences cut into chunks, each taken by its own programs, and where their partial results lie.

A sequence within one chunk needs no partial result: its programs write the output. So partial results are numbered by
position, whatever the number of sequences: chunk j of a sequence that starts at token s covers position s + j · CHUNK,
and has number 2 · (position // CHUNK), plus 1 unless it is its sequence's first. Within a sequence positions differ by
CHUNK; of two sequences longer than a chunk, only the last chunk of one and the first chunk of the next can share
position // CHUNK. So no two chunks share a number.

What a sequence longer than SHORT tokens needs once has number start // (SHORT + 1): such sequences start at least
SHORT + 1 tokens after each other.
"""

from __future__ import annotations

import triton
import triton.language as tl


def max_parts(tokens: int, chunk: int) -> int:
    """The most partial results that sequences longer than `chunk` need among `tokens` tokens; 0 if none is longer."""
    return 2 * (tokens // chunk + 1) if tokens > chunk else 0


def max_long(tokens: int, short: int) -> int:
    """The most sequences longer than `short` among `tokens` tokens."""
    return tokens // (short + 1)


@triton.jit
def long_number(start, SHORT: tl.constexpr):
    """Number of the sequence, longer than SHORT, that starts at token `start`, among all such sequences."""
    return (start // (SHORT + 1)).to(tl.int64)


@triton.jit
def part_number(start, first, CHUNK: tl.constexpr):
    """Number of the partial result of the chunk from token `first` of the sequence that starts at token `start`."""
    return ((start + first) // CHUNK).to(tl.int64) * 2 + (first > 0).to(tl.int64)


@triton.jit
def sequence_bounds(cu_seqlens_ptr, seq, num_tokens):
    """First token and length of a sequence, held within num_tokens whatever cu_seqlens holds."""
    start = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq), 0), num_tokens)
    end = tl.minimum(tl.maximum(tl.load(cu_seqlens_ptr + seq + 1), start), num_tokens)
    return start, end - start
