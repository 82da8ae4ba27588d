"""One request's inputs: those whose answers are kept, and those that are computed, put together in their order."""

from __future__ import annotations

from collections.abc import Sequence

from ridgeline_server.engine.cache import AnswerCache, Kept
from ridgeline_server.sequences import Float32Array, Input, Tokens


class Recall:
    """What a cache knows of a request's inputs. An input that is there several times is computed once.

    missing: the inputs that are to be computed
    """

    def __init__(self, cache: AnswerCache, keys: Sequence[bytes], inputs: Sequence[Input]) -> None:
        """keys: of the inputs, see AnswerCache.keys"""
        self._cache = cache
        self._keys = keys
        self._answers: dict[bytes, Kept] = {}
        self._read: dict[bytes, list[Tokens]] = {}
        self.missing: list[Input] = []
        for key, value in zip(keys, inputs, strict=True):
            if key in self._answers or key in self._read:
                continue
            kept = cache.find(key)
            if kept is not None:
                self._answers[key] = kept
            else:
                self._read[key] = []
                self.missing.append(value)

    @property
    def hits(self) -> int:
        """Inputs of which nothing is to be computed."""
        return len(self._keys) - len(self.missing)

    def read(self, tokens: Sequence[Tokens]) -> int:
        """Take the sequences of the missing inputs; tokens of the whole request's.

        tokens: `input` is an index into `missing`
        """
        groups = list(self._read.values())
        for entry in tokens:
            groups[entry.input].append(entry)
        return sum(sum(len(entry.ids) for entry in self._sequences(key)) for key in self._keys)

    def take(self, arrays: Sequence[Float32Array]) -> None:
        """Take the answers to the sequences that were read, in their order."""
        left = iter(arrays)
        for key, tokens in self._read.items():
            self._answers[key] = Kept(tuple(tokens), tuple(next(left) for _ in tokens))

    def keep(self, name: str) -> None:
        """Have the cache keep what was taken, of the model of that name."""
        for key in self._read:
            answer = self._answers[key]
            self._cache.keep(name, key, answer.sequences, answer.arrays)

    def answer(self) -> tuple[list[Tokens], list[Float32Array]]:
        """Sequences of all inputs, and the answer to each."""
        sequences: list[Tokens] = []
        arrays: list[Float32Array] = []
        for number, key in enumerate(self._keys):
            kept = self._answers[key]
            sequences += kept.read_as(number)
            arrays += kept.arrays
        return sequences, arrays

    def _sequences(self, key: bytes) -> Sequence[Tokens]:
        kept = self._answers.get(key)
        return self._read[key] if kept is None else kept.sequences
