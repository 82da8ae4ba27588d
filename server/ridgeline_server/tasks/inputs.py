"""The shapes that inputs of tasks have once a protocol has parsed them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class InputKind(StrEnum):
    """What a task takes, and as what it is handed over.

    TEXTS:     a text, token ids, or an array of either: Sequence[str | list[int]]
    PAIRS:     texts, or pairs as [text, text] or {"text", "text_pair"}: Sequence[str | list[int] | tuple[str, str]]
    QUESTIONS: {"question", "context"}, or an array of such: Sequence[Question]
    QUERY:     {"query", "texts"}: one Query
    SENTENCES: {"source_sentence", "sentences"}: one Sentences
    """

    TEXTS = "texts"
    PAIRS = "pairs"
    QUESTIONS = "questions"
    QUERY = "query"
    SENTENCES = "sentences"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text."""

    question: str
    context: str


@dataclass(frozen=True, slots=True)
class Query:
    """Texts to be ranked by how well they answer a query."""

    query: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sentences:
    """Texts to be compared with one."""

    source_sentence: str
    sentences: tuple[str, ...]
