"""What a student is trained on: the data's texts, asked as the task asks, and pieces of them beside."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from ridgeline_export.compress.data.data import Data, Example
from ridgeline_export.corpus import digest
from ridgeline_export.load import LoadedModel
from ridgeline_export.verify import questions

_LEAST_WORDS = 3
# Ends of sentences, and blank lines.
_BREAK = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def training_examples(loaded: LoadedModel, data: Data, pieces: int = 0) -> tuple[Example, ...]:
    """The training texts, each followed by so many pieces of it at most."""
    examples = list(data.training)
    if pieces:
        # A sentence can be a text of its own, which may be one to judge on.
        taken = {example.text for example in (*data.examples, *(data.held_out or ()))}
        found = {piece.text: piece for example in examples for piece in _pieces(example, pieces)}
        examples += [piece for text, piece in found.items() if text not in taken]
    return tuple(asked(loaded, examples))


def asked(loaded: LoadedModel, examples: Sequence[Example]) -> Sequence[Example]:
    """Examples as the task is asked: plain texts become pairs for question answering and rerankers (one label).

    Pairs, and texts with labels, stay as they are.
    """
    texts = [example.text for example in examples if isinstance(example.text, str) and example.label is None]
    if len(texts) < len(examples):
        return examples
    return [Example(text) for text in questions(loaded, texts)]


def _pieces(example: Example, most: int) -> Iterator[Example]:
    """Sentences and runs of two sentences, chosen by their hash; without the text's label, which is the whole's."""
    if not isinstance(example.text, str):
        return
    sentences = [" ".join(part.split()) for part in _BREAK.split(example.text)]
    sentences = [sentence for sentence in sentences if len(sentence.split()) >= _LEAST_WORDS]
    if len(sentences) < 2:
        return
    runs = [f"{a} {b}" for a, b in itertools.pairwise(sentences)] if len(sentences) > 2 else []
    for piece in sorted({*sentences, *runs}, key=digest)[:most]:
        yield Example(piece)
