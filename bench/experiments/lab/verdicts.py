"""A figure against its target, and what is written of an experiment: a table, a JSON file, a plot."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ridgeline_bench.machine import describe_machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, and what it should have been.

    is_least: the target is the least allowed value, else the most
    value:    None = it could not be measured, which misses every target
    """

    name: str
    value: float | None
    target: float
    is_least: bool
    unit: str = ""

    @property
    def is_met(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.target if self.is_least else self.value <= self.target

    def row(self) -> tuple[str, str, str, str]:
        """Name, value, target and verdict, as the table shows them."""
        unit = f" {self.unit}" if self.unit else ""
        value = "not measured" if self.value is None else f"{self.value:.4g}{unit}"
        target = f"{'≥' if self.is_least else '≤'} {self.target:g}{unit}"
        return self.name, value, target, "met" if self.is_met else "MISSED"


def at_least(name: str, value: float | None, target: float, unit: str = "") -> Verdict:
    return Verdict(name, value, target, True, unit)


def at_most(name: str, value: float | None, target: float, unit: str = "") -> Verdict:
    return Verdict(name, value, target, False, unit)


def median_of(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over rounds that hold the same ones."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def ratio_of_rounds(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the quotients of figures that were measured beside each other, round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def report(
    out: Path,
    name: str,
    inputs: Mapping[str, Any],
    figures: Mapping[str, Any],
    verdicts: Sequence[Verdict],
    draw: Callable[[], Figure],
) -> int:
    """Print the verdicts and write `name`.json and `name`.png; returns the exit code: 1 when a target is missed."""
    told = {
        "format": FORMAT,
        "experiment": name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": describe_machine(),
        "inputs": inputs,
        "figures": figures,
        "verdicts": [{**asdict(verdict), "is_met": verdict.is_met} for verdict in verdicts],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(told, indent=2, allow_nan=False, default=str) + "\n")
    draw().savefig(out / f"{name}.png")
    console = Console()
    table = Table("figure", "measured", "target", "", title=name.replace("_", " "), title_justify="left")
    for verdict in verdicts:
        table.add_row(*verdict.row(), style=None if verdict.is_met else "red")
    console.print(table)
    console.print(f"Files: {out / name}.json and {name}.png", highlight=False, soft_wrap=True)
    return 0 if all(verdict.is_met for verdict in verdicts) else 1


def say(step: str) -> None:
    """Tell a person what runs now."""
    print(f"… {step}", file=sys.stderr, flush=True)
