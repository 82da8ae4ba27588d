"""A search task made of plain texts: the first sentence of each asks for the rest of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_LEAST_WORDS = 3
NEAREST = 10


@dataclass(frozen=True, slots=True)
class Search:
    """queries[i] is answered by documents[i]."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]


def make_search(texts: Sequence[str]) -> Search:
    """First sentences as queries, the rest of each text as its document.

    Left out: texts of one sentence or of too few words, and sentences that several texts begin with.
    """
    pairs = []
    for text in texts:
        first, *rest = _SENTENCE_END.split(text.strip(), maxsplit=1)
        if rest and min(len(first.split()), len(rest[0].split())) >= _LEAST_WORDS:
            pairs.append((first.strip(), rest[0].strip()))
    begins = Counter(first for first, _ in pairs)
    ends = Counter(rest for _, rest in pairs)
    kept = [(first, rest) for first, rest in pairs if begins[first] == ends[rest] == 1]
    return Search(tuple(first for first, _ in kept), tuple(rest for _, rest in kept))


def recall(queries: NDArray[np.float64], documents: NDArray[np.float64]) -> float:
    """Share of queries whose document is among the NEAREST of all documents.

    queries, documents: [n, dim] of unit length; row i of one belongs to row i of the other
    NaN when an embedding is not finite, or there are no more documents than count as near
    """
    if len(queries) <= NEAREST or not (np.isfinite(queries).all() and np.isfinite(documents).all()):
        return float("nan")
    similarities = queries @ documents.T
    own = np.diag(similarities)[:, None]
    # Documents that are just as near count against it: a model that gives all texts one vector finds nothing.
    return float(np.mean((similarities >= own).sum(axis=1) <= NEAREST))
