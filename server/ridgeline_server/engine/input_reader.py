"""Inputs to sequences where the plain way will not do: pairs, offsets, windows, and texts cut on another side."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_server.sequences import Input, Reading, Tokens


class InputReader:
    """Reads inputs with the tokenizer of one bundle. Any thread may use it."""

    def __init__(self, path: str, max_tokens: int, vocab: int) -> None:
        """See TextTokenizer."""
        self._path = path
        self._max_tokens = max_tokens
        self._vocab = vocab

    def read(self, inputs: Sequence[Input], truncate: bool, reading: Reading) -> list[Tokens]:
        """Sequences of the inputs, in their order.

        Raises InputTooLongError when an input is over the maximum, is not windowed and `truncate` is False,
        InvalidInputError for an input that has no tokens or cannot be tokenized.
        """
        raise NotImplementedError
