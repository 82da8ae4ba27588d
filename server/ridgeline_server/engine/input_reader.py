"""Inputs to sequences: texts, pairs and token ids, cut on either side or into windows, with offsets where asked for.

The library tokenizes each text by itself, without special tokens and without truncation, which it would do by copying
every window of a long text, and of a pair every window of the one with every window of the other. What is kept is
chosen by the same rules in `cutting.py`, and laid out as the library's post-processor does in `layout.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Encoding, Tokenizer

from ridgeline_server.engine.cutting import Source, Text, cut_ids, cut_to_one, cut_to_windows, find_room
from ridgeline_server.engine.layout import Piece, layout_of
from ridgeline_server.engine.truncation import excerpt
from ridgeline_server.errors import InputTooLongError, InvalidInputError, RequestTooLargeError
from ridgeline_server.sequences import Input, Reading, Side, TokenIds, Tokens

PLAIN = Reading()
# Where fewer tokens are kept of a text that is cut before it is tokenized, the cut is as far behind as for these.
_LEAST_EXCERPT_TOKENS = 128
# The library takes up to 0.6 kB for each character of what it has in hand: so much is given to it together.
_MOST_CHARACTERS = 262_144


class InputReader:
    """Reads inputs with the tokenizer of one bundle. Any thread may use it."""

    def __init__(
        self, tokenizer: Tokenizer, max_tokens: int, vocab: int, side: Side, *, max_request_tokens: int, has_types: bool
    ) -> None:
        """See TextTokenizer.

        tokenizer: without truncation and padding
        side:      which end is cut off unless a reading says
        has_types: False for a model that is given no token types, whatever its tokenizer says
        """
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._vocab = vocab
        self._side = side
        self._max_request_tokens = max_request_tokens
        self._can_exceed_vocab = tokenizer.get_vocab_size(with_added_tokens=True) > vocab
        self._layouts = {
            (is_pair, has_special): layout_of(tokenizer, is_pair=is_pair, has_special=has_special, has_types=has_types)
            for is_pair in (False, True)
            for has_special in (False, True)
        }

    def read(self, inputs: Mapping[int, Input], truncate: bool, reading: Reading = PLAIN) -> list[Tokens]:
        """Sequences of the inputs, in their order.

        inputs: by their numbers in the request
        Raises InputTooLongError when an input is over the maximum, is not windowed and `truncate` is False,
        RequestTooLargeError when they hold more tokens than a request may, InvalidInputError for an input that has
        no tokens or cannot be tokenized, and for a reading that cannot be followed.
        """
        most, side = self._most(reading), reading.side or self._side
        texts = self._texts(inputs, most, side, reading)
        sequences: list[Tokens] = []
        budget = self._max_request_tokens
        for number, value in inputs.items():
            if isinstance(value, list | TokenIds):
                made = cut_ids(number, value, reading, most, side, budget)
                if made[0].is_truncated and not truncate:
                    raise self._too_long(number, str(len(value)), most)
            else:
                is_pair = isinstance(value, tuple)
                layout = self._layouts[is_pair, reading.special_tokens]
                room = find_room(layout.special_tokens, most, reading)
                source = Source(number, [next(texts) for _ in range(1 + is_pair)], layout, room)
                if is_pair and reading.first_tokens is not None:
                    source.texts[0] = source.texts[0].head(reading.first_tokens)
                if reading.overlap is not None:
                    made = cut_to_windows(source, reading, reading.overlap, side, budget)
                elif source.tokens > room and not truncate:
                    raise self._too_long(number, f"more than {most}", most)
                else:
                    made = [cut_to_one(source, reading.cut, side)]
            for tokens in made:
                self.check(tokens, is_given=isinstance(value, list | TokenIds))
                budget -= len(tokens.ids)
            if budget < 0:
                raise RequestTooLargeError(
                    f"the inputs hold more than {self._max_request_tokens} tokens, and one request may hold so many: "
                    "send several requests"
                )
            sequences += made
        return sequences

    def read_short(self, texts: Mapping[int, str], truncate: bool) -> dict[int, Tokens]:
        """As `read`, of texts that likely are whole in one sequence, which is as the library makes it.

        Empty where the library's sequences are not ours.
        """
        layout = self._layouts[False, True]
        if not texts or layout.prefix is None:
            return {}
        found = {}
        encodings = self._encode([*texts.values()], PLAIN, special_tokens=True)
        for number, encoding in zip(texts, encodings, strict=True):
            ids = encoding.ids
            if len(ids) <= self._max_tokens:
                tokens = Tokens(np.array(ids, dtype=np.int32), None, is_truncated=False, input=number)
            elif truncate:
                length = len(ids) - layout.special_tokens
                text = Text(Piece(ids[layout.prefix : layout.prefix + length]), length)
                room = find_room(layout.special_tokens, self._max_tokens, PLAIN)
                tokens = cut_to_one(Source(number, [text], layout, room), PLAIN.cut, self._side)
            else:
                raise self._too_long(number, f"more than {self._max_tokens}", self._max_tokens)
            self.check(tokens)
            found[number] = tokens
        return found

    def check(self, tokens: Tokens, *, is_given: bool = False) -> None:
        """Raise InvalidInputError unless there are tokens, and the model knows all of them.

        is_given: they are not the tokenizer's
        """
        ids, number = tokens.ids, tokens.input
        if not ids.size:
            raise InvalidInputError(f"input {number} has no tokens; give a text that is not empty", index=number)
        if is_given and not 0 <= ids.min() <= ids.max() < self._vocab:
            misfit = min(ids.min(), 0) or ids.max()
            raise InvalidInputError(
                f"input {number} holds the id {misfit}; this model's are 0 to {self._vocab - 1}", index=number
            )
        if self._can_exceed_vocab and ids.max() >= self._vocab:
            raise InvalidInputError(
                f"input {number} holds token {ids.max()}, which the model does not know: it has {self._vocab} "
                "tokens; remove the added token from the text",
                index=number,
            )

    def check_size(self, texts: Sequence[str]) -> None:
        """Raise RequestTooLargeError for more tokens than a request may hold, while but a part of them is in hand.

        Texts that are cut in parts hold a few tokens more than whole.
        """
        if sum(map(len, texts)) <= _MOST_CHARACTERS:
            return
        count = 0
        for text in texts:
            for start in range(0, len(text), _MOST_CHARACTERS):
                count += len(self._encode([text[start : start + _MOST_CHARACTERS]], PLAIN)[0])
                if count > self._max_request_tokens:
                    raise RequestTooLargeError(
                        f"the texts hold more than {self._max_request_tokens} tokens, which is what one request may "
                        "hold: send several requests"
                    )

    def _most(self, reading: Reading) -> int:
        most = self._max_tokens if reading.max_tokens is None else reading.max_tokens
        if not 1 <= most <= self._max_tokens:
            raise InvalidInputError(
                f"sequences of at most {most} tokens were asked for; this model's can hold 1 to {self._max_tokens}, "
                "special tokens included"
            )
        return most

    def _too_long(self, number: int, given: str, most: int) -> InputTooLongError:
        allowed = f"the model takes at most {most}" if most == self._max_tokens else f"at most {most} were asked for"
        return InputTooLongError(
            f"input {number} has {given} tokens; {allowed}; shorten it, or allow truncation", index=number
        )

    def _texts(self, inputs: Mapping[int, Input], most: int, side: Side, reading: Reading) -> Iterator[Text]:
        """Texts of the inputs in their order, two of a pair, none of token ids. Equal ones are tokenized once."""
        texts: list[str] = []
        for value in inputs.values():
            if isinstance(value, str):
                texts.append(value)
            elif isinstance(value, tuple):
                texts += value
        left = Counter(texts)
        read = self._different(left, most, side, reading)
        known: dict[str, Text] = {}
        for text in texts:
            found = known.pop(text, None) or next(read)
            left[text] -= 1
            if left[text]:
                known[text] = found
            yield found

    def _different(self, given: Iterable[str], most: int, side: Side, reading: Reading) -> Iterator[Text]:
        texts = [*given]
        while texts:
            count, characters = 1, len(texts[0])
            while count < len(texts) and characters + len(texts[count]) <= _MOST_CHARACTERS:
                characters += len(texts[count])
                count += 1
            yield from self._together(texts[:count], most, side, reading)
            del texts[:count]

    def _together(self, texts: list[str], most: int, side: Side, reading: Reading) -> Iterator[Text]:
        spans = [(0, len(text)) for text in texts]
        if reading.overlap is not None:
            self.check_size(texts)
        else:
            enough = max(most, min(self._max_tokens, _LEAST_EXCERPT_TOKENS))
            spans = [excerpt(text, enough, side) for text in texts]
        encodings = self._encode([text[slice(*span)] for text, span in zip(texts, spans, strict=True)], reading)
        # An excerpt that is not over the maximum says nothing of the whole text.
        short = [
            index
            for index, (text, span) in enumerate(zip(texts, spans, strict=True))
            if span != (0, len(text)) and len(encodings[index]) <= most
        ]
        for index, encoding in zip(short, self._encode([texts[index] for index in short], reading), strict=True):
            encodings[index], spans[index] = encoding, (0, len(texts[index]))
        for text, (start, stop), encoding in zip(texts, spans, encodings, strict=True):
            length = len(encoding)
            if stop - start < len(text):
                length = length * len(text) // (stop - start)
            yield Text(_piece(encoding, start) if reading.has_offsets else Piece(encoding.ids), length)

    def _encode(self, texts: list[str], reading: Reading, *, special_tokens: bool = False) -> list[Encoding]:
        encode = self._tokenizer.encode_batch if reading.has_offsets else self._tokenizer.encode_batch_fast
        try:
            return list(encode(texts, add_special_tokens=special_tokens)) if texts else []
        except Exception as error:  # the library raises bare Exception and TypeError
            raise InvalidInputError(f"a text cannot be tokenized: {error}") from error


def _piece(encoding: Encoding, skipped: int) -> Piece:
    """skipped: characters before the excerpt. Words count from the excerpt's first."""
    offsets = encoding.offsets
    if skipped:
        offsets = [(first + skipped, last + skipped) for first, last in offsets]
    return Piece(encoding.ids, offsets, [-1 if word is None else word for word in encoding.word_ids])
