"""Which tokens of a text, or of a pair, are kept when there are too many: as transformers' fast tokenizers choose."""

from __future__ import annotations

from ridgeline_server.sequences import Cut, Side

# A text of more than twice as many characters for each token that is kept is cut before it is tokenized.
_CHARACTERS_PER_TOKEN = 32
_WHITE_SPACE = (" ", "\n", "\t")

# First and one past the last.
Span = tuple[int, int]


def excerpt(text: str, tokens: int, side: Side) -> Span:
    """A very long text's head, or its tail where the left is cut off: characters that give more tokens than are kept.

    When its tokens alone are over the maximum, the rest cannot change those kept. It ends at white space where there
    is some; a cut inside a word is thousands of characters past what is kept.
    """
    most = tokens * _CHARACTERS_PER_TOKEN
    if len(text) <= 2 * most:
        return 0, len(text)
    if side is Side.RIGHT:
        space = max(text.rfind(mark, most // 2, most) for mark in _WHITE_SPACE)
        return 0, most if space < 0 else space
    start = len(text) - most
    spaces = [text.find(mark, start, start + most // 2) for mark in _WHITE_SPACE]
    return min((space for space in spaces if space >= 0), default=start), len(text)


def fit_pair(first: int, second: int, room: int, cut: Cut) -> tuple[int, int] | None:
    """How many tokens of each text are kept; None when the cut cannot make them fit and leave a token."""
    if first + second <= room:
        return first, second
    if cut is Cut.FIRST:
        return (room - second, second) if second < room else None
    if cut is Cut.SECOND:
        return (first, room - first) if first < room else None
    short = min(first, second, room // 2)
    return (room - short, short) if first > second else (short, room - short)


def count_windows(length: int, size: int, overlap: int) -> int:
    """How many windows of `size` tokens a text of `length` has; overlap < size."""
    return 1 if length <= size else len(range(0, length - overlap, size - overlap))


def windows(length: int, size: int, overlap: int, side: Side) -> list[Span]:
    """Windows of a text: from its begin, or from its end backwards where the left is cut off. overlap < size"""
    starts = range(0, max(1, count_windows(length, size, overlap)) * (size - overlap), size - overlap)
    spans = [(start, min(start + size, length)) for start in starts]
    return spans if side is Side.RIGHT else [(length - stop, length - start) for start, stop in spans]
