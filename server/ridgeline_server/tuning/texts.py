"""The texts that time and judge candidates, as token ids.

Texts that calibrated a variant judge nothing: each text belongs to one split of the corpus, by its hash.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ridgeline_estimate.shape import ModelShape
from ridgeline_export.bundle import Bundle
from ridgeline_export.corpus import Split, load_corpus
from ridgeline_export.errors import UsageError
from ridgeline_server.engine.tokenization import TextTokenizer
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.sequences import Tokens
from ridgeline_server.tuning.errors import TuneError, TuneUsageError

_MOST_TIMED = 2048
# Fewer fill no batch of a short length; they are repeated up to this number.
_LEAST_TIMED = 256
_JUDGED = 200


@dataclass(frozen=True, slots=True)
class Texts:
    """Tokenized texts. timed: of the benchmark split; judged: of the quality split; name: of the corpus, for people."""

    name: str
    timed: tuple[Tokens, ...]
    judged: tuple[Tokens, ...]


def load_texts(bundle: Bundle, path: Path | None) -> Texts:
    """Texts of a file, one a line, or the standard library's docstrings, tokenized as the bundle's model reads them.

    Raises TuneUsageError for a file that cannot be used, TuneError when the bundle cannot tokenize.
    """
    try:
        corpus = load_corpus(path)
    except UsageError as error:
        raise TuneUsageError(str(error)) from None
    manifest = bundle.manifest
    try:
        vocab = ModelShape.from_dict(dict(manifest.shape)).vocab
        tokenizer = TextTokenizer(bundle.path / "tokenizer.json", manifest.max_tokens, vocab)
    except Exception as error:  # the library raises bare Exception
        raise TuneError(f"bundle {bundle.path} has a tokenizer that cannot be loaded: {error}") from error
    timed = _tokens(tokenizer, corpus.take(Split.BENCHMARK, _MOST_TIMED))
    judged = _tokens(tokenizer, corpus.take(Split.QUALITY, _JUDGED))
    if not timed or not judged:
        raise TuneUsageError(f"{corpus.name} has too few texts that the model can read; give more with --texts")
    repeated = itertools.islice(itertools.cycle(timed), max(len(timed), _LEAST_TIMED))
    return Texts(corpus.name, tuple(repeated), tuple(judged))


def _tokens(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[Tokens]:
    """Tokens of each text that the model can read; the others would be refused in service too."""
    read = []
    for text in texts:
        try:
            read += tokenizer.encode([text], truncate=True)
        except InvalidInputError:
            continue
    return read
