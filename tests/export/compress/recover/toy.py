"""A tiny classifier and texts that it can learn, for the tests of training."""

from __future__ import annotations

from pathlib import Path

from ridgeline_export.compress.data.data import Example
from ridgeline_export.load import LoadedModel, load_model
from ridgeline_export.source import find_model
from tests.models import training_texts

LABELS = ("calm", "glad", "sad")


def load(directory: Path, task: str | None = None) -> LoadedModel:
    """The model of a directory."""
    return load_model(find_model(str(directory)), task)


def labelled(count: int = 48) -> tuple[Example, ...]:
    """Texts of 4 to 40 words; the label follows from a word that they begin with."""
    words = " ".join(training_texts()).split()
    openings = ("return the value", "raise an error", "json")
    return tuple(
        Example(" ".join([openings[number % 3], *words[number * 7 :][: 1 + number * 5 % 37]]), LABELS[number % 3])
        for number in range(count)
    )
