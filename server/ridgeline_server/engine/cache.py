"""Answers that are kept, by what decides them: a bounded number of bytes, the least recently used go first.

Inputs are told apart by hashes, keyed with a secret of this process: nobody can make two that are taken for each other.
Texts themselves are not held, but their token ids are, which answers tell of.
"""

from __future__ import annotations

import itertools
import secrets
import sys
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ridgeline_server.request import CacheCounts
from ridgeline_server.sequences import (
    Float32Array,
    Input,
    Int8Array,
    Int32Array,
    Reading,
    Readout,
    TokenIds,
    Tokens,
)

# Of a keyed 128-bit hash: inputs of any number will not share one by chance.
_DIGEST_BYTES = 16
# What the ordered dictionary takes for an entry: a slot of its table, filled to a half, and a node of its list.
_TABLE_BYTES = 200
_Array = TypeVar("_Array", Int32Array, Int32Array | None, Int8Array | None)


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to one input: its sequences (several of an input that is read in windows), and an array for each."""

    sequences: tuple[Tokens, ...]
    arrays: tuple[Float32Array, ...]

    def read_as(self, number: int) -> list[Tokens]:
        """The sequences, of the input of that number in a request."""
        return [tokens if tokens.input == number else replace(tokens, input=number) for tokens in self.sequences]


@dataclass(frozen=True, slots=True)
class _Entry:
    kept: Kept
    counts: CacheCounts
    size_bytes: int


_ENTRY_BYTES = sys.getsizeof(_Entry(Kept((), ()), CacheCounts(), 0)) + sys.getsizeof(1 << 20)


class AnswerCache:
    """Lives on the event loop."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._counts: dict[str, CacheCounts] = {}
        self._generations: WeakKeyDictionary[Hashable, int] = WeakKeyDictionary()
        self._next_generation = itertools.count(1)
        self._secret = secrets.token_bytes(32)

    def keys(
        self,
        model: Hashable,
        inputs: Sequence[Input],
        truncate: bool,
        reading: Reading | None,
        readout: Readout | None,
    ) -> list[bytes]:
        """What the answer to each input is kept under.

        model: the object that answers: one that is loaded anew under the same name is another
        """
        generation = self._generations.get(model)
        if generation is None:
            generation = self._generations[model] = next(self._next_generation)
        beginning = blake2b(digest_size=_DIGEST_BYTES, key=self._secret)
        # Of dataclasses, numbers and members of enums: different ones are written differently. A zero ends it.
        beginning.update(f"{(generation, truncate, reading, readout)!r}\0".encode())
        keys = []
        for value in inputs:
            whole = beginning.copy()
            for part in _parts(value):
                whole.update(part)
            keys.append(whole.digest())
        return keys

    def find(self, key: bytes) -> Kept | None:
        """The answer that is kept under the key, None = there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.kept

    def count(self, name: str, hits: int, misses: int) -> None:
        """Count inputs of a model by whether their answers were there."""
        counts = self._counts_of(name)
        counts.hits += hits
        counts.misses += misses

    def keep(self, name: str, key: bytes, sequences: Sequence[Tokens], arrays: Sequence[Float32Array]) -> None:
        """Keep an answer of a model, in copies: arrays are parts of messages that hold much more.

        Nothing is kept of an answer that is larger than the cache, or holds values that are not finite: that is a
        failure, which the next attempt may not have.
        """
        if not all(np.isfinite(array).all() for array in arrays):
            return
        kept = Kept(tuple(map(_own_tokens, sequences)), tuple(_own(array) for array in arrays))
        entry = _Entry(kept, self._counts_of(name), _size_bytes(key, kept))
        if entry.size_bytes > self.most_bytes:
            return
        before = self._entries.pop(key, None)
        if before is not None:
            self._let_go(before)
        self._entries[key] = entry
        self.held_bytes += entry.size_bytes
        entry.counts.entries += 1
        entry.counts.held_bytes += entry.size_bytes
        while self.held_bytes > self.most_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._let_go(oldest)
            oldest.counts.evictions += 1

    def forget(self, name: str) -> None:
        """Keep no answer of the model any longer."""
        counts = self._counts_of(name)
        for key in [key for key, entry in self._entries.items() if entry.counts is counts]:
            self._let_go(self._entries.pop(key))

    def counts(self) -> dict[str, CacheCounts]:
        """What was found and what is held, by the names of models."""
        return self._counts

    def _counts_of(self, name: str) -> CacheCounts:
        return self._counts.setdefault(name, CacheCounts())

    def _let_go(self, entry: _Entry) -> None:
        self.held_bytes -= entry.size_bytes
        entry.counts.entries -= 1
        entry.counts.held_bytes -= entry.size_bytes


def _parts(value: Input) -> tuple[bytes, ...]:
    """An input in bytes that no other input has."""
    if isinstance(value, str):
        return b"text", _utf8(value)
    if isinstance(value, tuple):
        first = _utf8(value[0])
        return b"pair%d\0" % len(first), first, _utf8(value[1])
    if isinstance(value, TokenIds):
        types = b"" if value.type_ids is None else np.ascontiguousarray(value.type_ids, np.int64).tobytes()
        return b"typed%d\0" % len(types), types, np.ascontiguousarray(value.ids, np.int64).tobytes()
    return b"ids", repr(value).encode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _own_tokens(tokens: Tokens) -> Tokens:
    return replace(
        tokens,
        ids=_whole(tokens.ids),
        type_ids=_whole(tokens.type_ids),
        offsets=_whole(tokens.offsets),
        texts=_whole(tokens.texts),
        words=_whole(tokens.words),
    )


def _whole(array: _Array) -> _Array:
    """The array, copied where it is a part of another one, which it would hold too."""
    return array if array is None or array.base is None else array.copy()


def _own(array: Float32Array) -> Float32Array:
    copied = np.array(array, dtype=np.float32)
    copied.setflags(write=False)  # it is part of many answers
    return copied


def _size_bytes(key: bytes, kept: Kept) -> int:
    """What an answer takes in memory, its key and its place in the table included."""
    objects: list[object] = [key, kept, kept.sequences, kept.arrays, *kept.sequences, *kept.arrays]
    for tokens in kept.sequences:
        objects += (tokens.ids, tokens.type_ids, tokens.offsets, tokens.texts, tokens.words)
    return _TABLE_BYTES + _ENTRY_BYTES + sum(sys.getsizeof(each) for each in objects if each is not None)
