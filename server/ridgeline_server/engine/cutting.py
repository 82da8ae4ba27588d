"""An input's tokens to the sequences that a reading asks for: one that is cut where it is too long, or windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ridgeline_server.engine.layout import Layout, Piece
from ridgeline_server.engine.truncation import Span, count_windows, fit_pair, windows
from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.sequences import Cut, Reading, Side, TokenIds, Tokens

_NAMES = ("first", "second")


@dataclass(slots=True)
class Text:
    """A text's tokens, or those of its head or tail.

    length: tokens of the whole text, an estimate where there is but a part: of two such texts, that only decides which
            is the longer one
    """

    tokens: Piece
    length: int

    def between(self, span: Span) -> Piece:
        """Some tokens."""
        start, stop = span
        every = self.tokens
        return Piece(
            every.ids[start:stop],
            None if every.offsets is None else every.offsets[start:stop],
            None if every.words is None else every.words[start:stop],
        )

    def keep(self, tokens: int, side: Side) -> Piece:
        """So many tokens, at most, that are not on this side."""
        return self.between(_kept(len(self.tokens.ids), tokens, side))

    def head(self, tokens: int) -> Text:
        """A text of so many tokens, at most, from the first on."""
        return Text(self.keep(tokens, Side.RIGHT), min(self.length, tokens))


@dataclass(slots=True)
class Source:
    """A text, or a pair, that was read.

    number: the input's in its request
    room:   tokens of texts that a sequence can hold
    """

    number: int
    texts: list[Text]
    layout: Layout
    room: int

    @property
    def tokens(self) -> int:
        """Of all texts, without special ones."""
        return sum(text.length for text in self.texts)

    def sequence(self, pieces: list[Piece], *, is_truncated: bool = False) -> Tokens:
        """A sequence of the input."""
        return self.layout.place(pieces, self.number, is_truncated=is_truncated)


def find_room(special_tokens: int, most: int, reading: Reading) -> int:
    """Tokens of texts that a sequence of at most `most` can hold. Raises InvalidInputError when there is no room."""
    room = most - special_tokens
    if room < 1:
        raise InvalidInputError(
            f"sequences of at most {most} tokens were asked for, and {special_tokens} of them are special tokens; "
            f"ask for {special_tokens + 1} or more"
        )
    overlap = reading.overlap
    if overlap is not None and not reading.overlap_shrinks and not 0 <= overlap < room:
        raise InvalidInputError(
            f"windows that overlap by {overlap} tokens were asked for; those of at most {most} tokens, "
            f"{special_tokens} of them special, can overlap by 0 to {room - 1}"
        )
    return room


def cut_to_one(source: Source, cut: Cut, side: Side) -> Tokens:
    """The input in one sequence. Raises InvalidInputError when the text to be cut is not what is too long."""
    if source.tokens <= source.room:
        return source.sequence([text.tokens for text in source.texts])
    if len(source.texts) == 1:
        return source.sequence([source.texts[0].keep(source.room, side)], is_truncated=True)
    first, second = source.texts
    kept = fit_pair(first.length, second.length, source.room, cut)
    if kept is None:
        raise _without_room(source, 1 if cut is Cut.FIRST else 0)
    return source.sequence([first.keep(kept[0], side), second.keep(kept[1], side)], is_truncated=True)


def cut_to_windows(source: Source, reading: Reading, overlap: int, side: Side, budget: int) -> list[Tokens]:
    """Windows of the input's text; of a pair, those of the text that is cut, each with the whole other one.

    reading: its cut LONGEST = the longer of the two
    overlap: the reading's
    budget: tokens that the windows may hold together
    Raises RequestTooLargeError when they hold more, InvalidInputError when the other text leaves too little room.
    """
    if source.tokens <= source.room:
        return [source.sequence([text.tokens for text in source.texts])]
    index = _windowed(source, reading.cut)
    length = source.texts[index].length
    size = source.room - source.tokens + length
    if size < 1:
        raise _without_room(source, 1 - index)
    if reading.overlap_shrinks:
        overlap = min(overlap, size * 3 // 4)
    if overlap >= size:
        raise InvalidInputError(
            f"windows that overlap by {overlap} tokens were asked for; beside the {_NAMES[1 - index]} text of input "
            f"{source.number} they hold {size} tokens of the other's; ask for less overlap, or shorten that text",
            index=source.number,
        )
    surroundings = source.tokens - length + source.layout.special_tokens
    _check_budget(source.number, length, size, overlap, surroundings, budget)
    pieces = [text.tokens for text in source.texts]
    made = []
    for span in windows(length, size, overlap, side):
        pieces[index] = source.texts[index].between(span)
        made.append(source.sequence(pieces))
    return made


def cut_ids(
    number: int, given: list[int] | TokenIds, reading: Reading, most: int, side: Side, budget: int
) -> list[Tokens]:
    """Sequences of token ids that were given, special tokens among them. Raises as cut_to_windows does."""
    if reading.has_offsets:
        raise InvalidInputError(f"input {number} is token ids, of which no text is known; give the text", index=number)
    ids, types = (given, None) if isinstance(given, list) else (given.ids, given.type_ids)
    spans = [_kept(len(ids), most, side)]
    if reading.overlap is not None:
        find_room(0, most, reading)
        _check_budget(number, len(ids), most, reading.overlap, 0, budget)
        spans = windows(len(ids), most, reading.overlap, side)
    try:
        return [
            Tokens(
                np.array(ids[start:stop], dtype=np.int32),
                None if types is None else types[start:stop],
                is_truncated=reading.overlap is None and stop - start < len(ids),
                input=number,
            )
            for start, stop in spans
        ]
    except OverflowError:
        raise InvalidInputError(
            f"input {number} holds a number that is no token id; ids have 31 bits", index=number
        ) from None


def _kept(length: int, tokens: int, side: Side) -> Span:
    return (0, min(tokens, length)) if side is Side.RIGHT else (max(0, length - tokens), length)


def _windowed(source: Source, cut: Cut) -> int:
    if len(source.texts) == 1 or cut is Cut.FIRST:
        return 0
    first, second = source.texts
    return 0 if cut is Cut.LONGEST and first.length > second.length else 1


def _check_budget(number: int, length: int, size: int, overlap: int, surroundings: int, budget: int) -> None:
    """surroundings: tokens that stand in every window beside the text's"""
    count = count_windows(length, size, overlap)
    total = length + (count - 1) * overlap + count * surroundings
    if total > budget:
        raise RequestTooLargeError(
            f"input {number} makes {count} windows of {total} tokens in all; {budget} are left of what one request "
            "may hold: send several requests, or ask for less overlap",
            index=number,
        )


def _without_room(source: Source, index: int) -> InvalidInputError:
    return InvalidInputError(
        f"the {_NAMES[index]} text of input {source.number} leaves no room for the other: a sequence holds "
        f"{source.room} tokens of the two; shorten it",
        index=source.number,
    )
