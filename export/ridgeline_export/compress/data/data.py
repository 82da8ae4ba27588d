"""The texts of one compression, split by a hash of each text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ridgeline_export.corpus import Split, digest

if TYPE_CHECKING:
    from ridgeline_export.compress.training import DataSettings

Text = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Example:
    """A text or a pair of texts, and its label where the data has labels: a class's name, or a number to regress to."""

    text: Text
    label: str | float | None = None


@dataclass(frozen=True)
class Data:
    """All examples of a source.

    name:     for people and reports
    held_out: examples of a file of their own to judge on; None: `examples` are split
    """

    name: str
    examples: tuple[Example, ...]
    settings: DataSettings
    held_out: tuple[Example, ...] | None = None

    @cached_property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, sorted; None for data without labels or with numbers."""
        names = {example.label for example in self.examples if example.label is not None}
        if not names or any(isinstance(name, float) for name in names):
            return None
        return tuple(sorted(str(name) for name in names))

    @cached_property
    def outputs(self) -> tuple[str, ...] | None:
        """What a model that learns the labels gives: the classes, or one number; None for data without labels."""
        if self.labels is None and any(example.label is not None for example in self.examples):
            return ("value",)
        return self.labels

    @cached_property
    def training(self) -> tuple[Example, ...]:
        """For gradients, in an order that depends on the texts alone.

        Timing needs no texts of its own: what is timed is not trained on, so the benchmark's share is for training too.
        """
        tenths = range(2, 10) if self.held_out is not None else range(Split.BENCHMARK.value.start, 10)
        return _ordered(self.examples, tenths)[: self.settings.train_texts]

    @cached_property
    def validation(self) -> tuple[Example, ...]:
        """For what is chosen while training: early stopping, importance, rates. Never for a reported figure."""
        return _ordered(self.examples, Split.CALIBRATION.value)[:512]

    @cached_property
    def quality(self) -> tuple[Example, ...]:
        """For the figures that are reported, quality and speed."""
        limit = self.settings.quality_texts
        if self.held_out is not None:
            known = {key_of(example.text) for example in self.examples}
            unknown = tuple(example for example in self.held_out if key_of(example.text) not in known)
            return _ordered(unknown, range(10))[:limit]
        return _ordered(self.examples, Split.QUALITY.value)[:limit]


def key_of(text: Text) -> str:
    """What of a text or pair decides its split."""
    return text if isinstance(text, str) else text[0]


def _ordered(examples: tuple[Example, ...], tenths: range) -> tuple[Example, ...]:
    chosen = [example for example in examples if _tenth(example) in tenths]
    return tuple(sorted(chosen, key=lambda example: digest(key_of(example.text))))


def _tenth(example: Example) -> int:
    return int.from_bytes(digest(key_of(example.text))[:8], "big") % 10
