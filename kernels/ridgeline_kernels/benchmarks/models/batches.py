"""The batches that models are measured on: texts of one length, and mixes of lengths as texts have them.

docstrings   log-normal, median 27, cut to 3 … 256: mean 51, as the docstrings of Python's standard library
squad        log-normal, cut to 384: mean 177, 54 % padding at 384, as SQuAD's questions with their passages
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from ridgeline_kernels.errors import ArgumentError

LENGTHS = (16, 50, 128, 512)
MIXES = ("docstrings", "squad")
TARGET_TOKENS = (1, 512, 2048, 8192, 32768, 65536)
"""Tokens of a batch: from one text to more than any of the models needs to keep an H200 busy."""

_DRAWN = 4096


@dataclass(frozen=True)
class Texts:
    """Where texts' lengths come from: a name, and lengths that are taken in turn."""

    name: str
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        """The longest text, to which padded batches of this kind are padded at most."""
        return max(self.lengths)

    @property
    def mean(self) -> float:
        """Tokens a text."""
        return mean(self.lengths)

    @property
    def median(self) -> float:
        """Tokens of the middle text."""
        return float(median(self.lengths))

    def batch(self, target_tokens: int) -> tuple[int, ...]:
        """As many texts as come to `target_tokens` or the last before it, one at least."""
        taken: list[int] = []
        total = 0
        while not taken or total + self.lengths[len(taken) % len(self.lengths)] <= target_tokens:
            taken.append(self.lengths[len(taken) % len(self.lengths)])
            total += taken[-1]
        return tuple(taken)


def texts_of(name: str, longest: int | None = None) -> Texts:
    """The texts called `name`: a number of tokens, or a mix. longest: the most tokens that a model takes.

    Raises ArgumentError for another name.
    """
    if name.isdigit() and int(name):
        lengths = [int(name)]
    elif name == "docstrings":
        lengths = _log_normal(math.log(27), 1.22, 3, 256)
    elif name == "squad":
        lengths = _log_normal(math.log(165), 0.4, 16, 384)
    else:
        raise ArgumentError(f"no texts are called {name!r}; there are numbers of tokens, {', '.join(MIXES)}")
    return Texts(name, tuple(min(length, longest or length) for length in lengths))


def batches_of(texts: Texts, targets: Sequence[int] = TARGET_TOKENS) -> list[tuple[int, ...]]:
    """The texts' batches at the targets, each once, in ascending order."""
    return sorted(set(map(texts.batch, targets)), key=sum)


def _log_normal(mu: float, sigma: float, least: int, most: int) -> list[int]:
    draws = random.Random(0)
    return [round(min(max(math.exp(draws.gauss(mu, sigma)), least), most)) for _ in range(_DRAWN)]
