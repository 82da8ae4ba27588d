"""What a tokenizer puts around a text, or around and between two: its special tokens, and the types of all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
from tokenizers import Tokenizer

from ridgeline_server.sequences import Tokens

_PROBE = "A probe, 1."


@dataclass(slots=True)
class Piece:
    """Tokens of one text that stand in one sequence.

    offsets: characters of each in the text, first and one past the last; None where they were not asked for
    words:   of each the word in the text; None likewise
    """

    ids: list[int]
    offsets: list[tuple[int, int]] | None = None
    words: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of every sequence.

    text: 0 or 1, the text that stands here, -1 = special tokens
    type: of all tokens here
    ids:  the special tokens
    """

    text: int
    type: int
    ids: list[int]


class Layout:
    """The parts of a sequence in their order."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.special_tokens = sum(len(part.ids) for part in parts)
        self._pieces = [(part.text, Piece(part.ids)) for part in parts]
        self._texts = np.array([part.text for part in parts], dtype=np.int8)
        types = np.array([part.type for part in parts], dtype=np.int32)
        self._types = types if types.any() else None

    @property
    def prefix(self) -> int | None:
        """Special tokens before the text, where there is one and all tokens are of type 0; else None."""
        if self._types is not None or np.count_nonzero(self._texts >= 0) != 1:
            return None
        return sum(len(piece.ids) for _, piece in self._pieces[: int(self._texts.argmax())])

    def place(self, pieces: Sequence[Piece], number: int, *, is_truncated: bool) -> Tokens:
        """The sequence of a text or a pair.

        pieces: of each text
        number: the input's
        """
        filled = [piece if text < 0 else pieces[text] for text, piece in self._pieces]
        ids = np.array([*chain.from_iterable(piece.ids for piece in filled)], dtype=np.int32)
        lengths = [len(piece.ids) for piece in filled]
        types = None if self._types is None else np.repeat(self._types, lengths)
        offsets = texts = words = None
        if pieces[0].offsets is not None:
            spans = [*chain.from_iterable(piece.offsets or [(0, 0)] * len(piece.ids) for piece in filled)]
            offsets = np.array(spans, dtype=np.int32).reshape(-1, 2)
            texts = np.repeat(self._texts, lengths)
            numbers = chain.from_iterable(piece.words or [-1] * len(piece.ids) for piece in filled)
            words = np.array([*numbers], dtype=np.int32)
        return Tokens(ids, types, is_truncated, number, offsets, texts, words)


def layout_of(tokenizer: Tokenizer, *, is_pair: bool, has_special: bool, has_types: bool) -> Layout:
    """The layout that a tokenizer without truncation and padding uses, found by a probe.

    has_types: False for a model that is given no types, whatever its tokenizer says
    """
    probe = _probe(tokenizer)
    encoding = tokenizer.encode(probe, probe if is_pair else None, add_special_tokens=has_special)
    tokens = zip(encoding.sequence_ids, encoding.type_ids, encoding.ids, strict=True)
    parts = []
    for (text, kind), group in groupby(tokens, key=lambda token: token[:2]):
        ids = [token[2] for token in group] if text is None else []
        parts.append(Part(-1 if text is None else text, kind if has_types else 0, ids))
    return Layout(parts)


def _probe(tokenizer: Tokenizer) -> str:
    """A text that has tokens: there are vocabularies without a Latin letter or a token for what is unknown."""
    if tokenizer.encode(_PROBE, add_special_tokens=False).ids:
        return _PROBE
    return next(text for text in tokenizer.get_vocab() if tokenizer.encode(text, add_special_tokens=False).ids)
