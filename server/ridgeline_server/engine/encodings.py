"""Texts to whole encodings, and token ids back to texts: for people who look at tokens, not for the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tokenizers

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.sequences import Encoding


def encode_whole(tokenizer: tokenizers.Tokenizer, texts: Sequence[str], special_tokens: bool) -> list[Encoding]:
    """An encoding for each text. Raises InvalidInputError when a text cannot be tokenized.

    tokenizer: without truncation and padding
    """
    try:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
    except Exception as error:  # the library raises bare Exception and TypeError
        raise InvalidInputError(f"a text cannot be tokenized: {error}") from error
    return [_encoding(encoding) for encoding in encodings]


def decode(tokenizer: tokenizers.Tokenizer, ids: Sequence[list[int]], skip_special_tokens: bool) -> list[str]:
    """A text for each list of token ids; ids without a token are left out. Raises InvalidInputError."""
    try:
        return list(tokenizer.decode_batch(list(ids), skip_special_tokens=skip_special_tokens))
    except Exception as error:
        raise InvalidInputError(f"the token ids cannot be decoded: {error}") from error


def _encoding(encoding: tokenizers.Encoding) -> Encoding:
    return Encoding(
        ids=np.array(encoding.ids, dtype=np.int32),
        offsets=np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2),
        special=np.array(encoding.special_tokens_mask, dtype=bool),
        tokens=encoding.tokens,
    )
