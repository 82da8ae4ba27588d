"""Token ids of plain English-like text, put together from the remembered ids of its words.

BERT's tokenizers split ASCII text into words and marks that do not depend on one another: the ids of a text are those
of its words in a row, between the special tokens. So each word is asked of the library once. Whatever could break
that (other characters, control characters, the content of an added token, another kind of tokenizer) is left to the
library.
"""

from __future__ import annotations

import re
from itertools import chain

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

# Holds the interpreter's lock: 0.5 ms for so many characters.
_MOST_CHARACTERS = 16_384
# English text has some 50,000 different words in regular use; at 150 bytes a word, 10 MB.
_MOST_WORDS = 65_536
_LONGEST_WORD = 40
# Alphanumeric runs, and every other character by itself.
_WORDS = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9 \t\n\r]").findall
_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class WordIds:
    """Remembers the token ids of words. Any thread may use it."""

    def __init__(self, tokenizer: Tokenizer, prefix: list[int], suffix: list[int], *, is_lowercase: bool) -> None:
        """prefix, suffix: ids of the special tokens around a text."""
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._suffix = suffix
        self._is_lowercase = is_lowercase
        self._added = [token.content.lower() for token in tokenizer.get_added_tokens_decoder().values()]
        self._ids: dict[str, tuple[int, ...]] = {}

    def encode(self, text: str) -> list[int] | None:
        """Ids of a text, special tokens included, never truncated; None when the library must be asked."""
        if not text.isascii() or len(text) > _MOST_CHARACTERS:
            return None
        lower = text.lower()
        if any(content in lower for content in self._added):
            return None
        words = _WORDS(lower if self._is_lowercase else text)
        try:
            ids = list(chain.from_iterable(map(self._ids.__getitem__, words)))
        except KeyError:
            found = self._find(words)
            if found is None:
                return None
            ids = list(chain.from_iterable(map(found.__getitem__, words)))
        return [*self._prefix, *ids, *self._suffix]

    def _find(self, words: list[str]) -> dict[str, tuple[int, ...]] | None:
        """Ids of all these words, new ones asked of the library and remembered; None when a word is not plain."""
        found = {word: self._ids.get(word) for word in words}
        new = [word for word, ids in found.items() if ids is None]
        if not all(word in _MARKS or (word.isalnum() and len(word) <= _LONGEST_WORD) for word in new):
            return None
        encodings = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        if any(encoding.overflowing for encoding in encodings):  # longer than the tokenizer's maximum
            return None
        learned = {word: tuple(encoding.ids) for word, encoding in zip(new, encodings, strict=True)}
        if len(self._ids) + len(learned) > _MOST_WORDS:
            self._ids.clear()
        self._ids.update(learned)
        return {word: ids if ids is not None else learned[word] for word, ids in found.items()}


def remember_words(tokenizer: Tokenizer) -> WordIds | None:
    """A WordIds for a tokenizer whose texts are their words in a row, None for any other."""
    normalizer = tokenizer.normalizer
    if not (
        isinstance(normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
    ):
        return None
    # Two words of one id each: what surrounds them are the special tokens.
    bare = tokenizer.encode("a b", add_special_tokens=False).ids
    probe = tokenizer.encode("a b")
    start = next((at for at in range(len(probe.ids)) if probe.ids[at : at + len(bare)] == bare), None)
    if not bare or start is None or any(probe.type_ids):
        return None
    prefix, suffix = probe.ids[:start], probe.ids[start + len(bare) :]
    return WordIds(tokenizer, prefix, suffix, is_lowercase=normalizer.lowercase)
