"""Texts to whole encodings, and token ids back to texts: for people who look at tokens, not for the model.

A tokenizer that cuts keeps what it cut off as further pieces, each between special tokens of its own. Put together
they are what it would have given without a maximum, so that no second tokenizer is needed that does not cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.sequences import Encoding


def encode_whole(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], special_tokens: bool) -> list[Encoding]:
    """An encoding for each text, nothing cut off. Raises InvalidInputError when a text cannot be tokenized."""
    try:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
    except Exception as error:  # the library raises bare Exception and TypeError
        raise InvalidInputError(f"a text cannot be tokenized: {error}") from error
    return [_whole(encoding) for encoding in encodings]


def decode(tokenizer: tokenizers.Tokenizer, ids: Sequence[list[int]], skip_special_tokens: bool) -> list[str]:
    """A text for each list of token ids; ids without a token are left out. Raises InvalidInputError."""
    try:
        return list(tokenizer.decode_batch(list(ids), skip_special_tokens=skip_special_tokens))
    except Exception as error:
        raise InvalidInputError(f"the token ids cannot be decoded: {error}") from error


def _whole(encoding: tokenizers.Encoding) -> Encoding:
    if not encoding.overflowing:
        return _encoding([encoding])
    pieces = [encoding, *encoding.overflowing]
    pieces.sort(key=_start)  # those of a tokenizer that cuts on the left come in another order
    return _encoding(pieces)


def _encoding(pieces: list[tokenizers.Encoding]) -> Encoding:
    ids, offsets, special, tokens = [], [], [], []
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        mask = np.array(piece.special_tokens_mask, dtype=bool)
        own = np.flatnonzero(~mask)
        begin = 0 if number == 0 or not own.size else int(own[0])
        end = len(mask) if number == last or not own.size else int(own[-1]) + 1
        ids += piece.ids[begin:end]
        offsets += piece.offsets[begin:end]
        tokens += piece.tokens[begin:end]
        special.append(mask[begin:end])
    return Encoding(
        ids=np.array(ids, dtype=np.int32),
        offsets=np.array(offsets, dtype=np.int32).reshape(-1, 2),
        special=np.concatenate(special),
        tokens=tokens,
    )


def _start(piece: tokenizers.Encoding) -> tuple[int, int]:
    own = [
        offset for offset, is_special in zip(piece.offsets, piece.special_tokens_mask, strict=True) if not is_special
    ]
    return own[0] if own else (0, 0)
