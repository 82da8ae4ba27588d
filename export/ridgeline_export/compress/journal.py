"""compression.json: what was done to a compressed model, step by step."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline_export.compress.method import Outcome
from ridgeline_export.errors import ModelError

JOURNAL_NAME = "compression.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One method's work. method: its family; seconds: of the work, those before a resume included."""

    method: str
    name: str
    settings: Mapping[str, Any]
    data: str
    summary: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def finished(self, outcome: Outcome, seconds: float) -> Entry:
        """The entry with what came of it."""
        return dataclasses.replace(self, summary=outcome.summary, figures=dict(outcome.figures), seconds=seconds)


def read_journal(directory: Path) -> list[Entry]:
    """What was done to the model in a directory so far; empty for one that was never compressed.

    Raises ModelError when the file is damaged.
    """
    path = directory / JOURNAL_NAME
    if not path.is_file():
        return []
    try:
        return [Entry(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["steps"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{path} cannot be read ({type(error).__name__}: {error}); compress the model again"
        ) from error


def write_journal(directory: Path, entries: Sequence[Entry]) -> None:
    """Write all entries."""
    text = json.dumps({"format": 1, "steps": [dataclasses.asdict(entry) for entry in entries]}, indent=2)
    (directory / JOURNAL_NAME).write_text(text + "\n", encoding="utf-8")
