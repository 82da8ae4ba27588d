"""What an experiment found as Markdown, to be read without the JSON file and the plot beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.lab.verdicts import Verdict

from ridgeline_bench.machine import describe_machine


@dataclass(frozen=True, slots=True)
class Table:
    """rows: as many cells each as the header has; numbers as they shall be read."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of rounds, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.least:.3f} to {self.greatest:.3f})"


def spread_of(values: Sequence[float]) -> Spread:
    """Over at least one value."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Spread(median, ordered[0], ordered[-1])


def milliseconds(seconds: float | None) -> str:
    """Such as "12.3"; "–" for what was not measured."""
    return "–" if seconds is None else f"{1e3 * seconds:.1f}"


def write(
    path: Path,
    title: str,
    inputs: Mapping[str, Any],
    paragraphs: Sequence[str | Table],
    verdicts: Sequence[Verdict],
) -> None:
    """Write `title`, the machine, the paragraphs and tables, the verdicts, and those inputs that are one value."""
    machine = describe_machine()
    targets = Table(("figure", "measured", "target", ""), [verdict.row() for verdict in verdicts])
    about = f"{machine['cpu']}, {machine['cores']} cores, shared with the load."
    scalars = [(name, str(value)) for name, value in inputs.items() if isinstance(value, str | int | float)]
    given = Table(("input", "value"), scalars)
    blocks = [f"# {title}", about, *map(str, paragraphs), str(targets), str(given)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
