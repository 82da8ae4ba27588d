"""`--find`: the learning rate, optimizer and schedule that do best on the user's own task, with what was seen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline_export.compress.distill.examples import training_examples
from ridgeline_export.compress.method import Job
from ridgeline_export.compress.recover.objective import Objective
from ridgeline_export.compress.recover.plots import draw
from ridgeline_export.compress.recover.range_test import RangeTest, range_test
from ridgeline_export.compress.recover.search import Trial, best_in, best_of, search
from ridgeline_export.compress.recover.tokens import tokenize
from ridgeline_export.compress.rundir import KEPT
from ridgeline_export.compress.training import OPTIMIZERS, SCHEDULES, Training

NAME = "find"


@dataclass(frozen=True, slots=True)
class Findings:
    """training: with the winner's optimizer, schedule and rate; figures: for the journal"""

    training: Training
    figures: Mapping[str, Any]


def find(
    job: Job, objective: Objective, training: Training, labels: tuple[str, ...] | None, trials: int, steps: int
) -> Findings:
    """A range test of each optimizer, then the search; the job's model stays as it is.

    Tables, curves and plots are kept beside the result, in OUT/find/. A killed search goes on where it was.
    Raises UsageError when optuna or matplotlib is missing, TrainingError when nothing can be trained.
    """
    out = job.directory / KEPT / NAME
    out.mkdir(parents=True, exist_ok=True)
    tokens = tokenize(job.loaded.encoder, training_examples(job.loaded, job.data), training.max_tokens, labels)
    model, progress = job.loaded.model, job.progress
    tests = []
    for optimizer in OPTIMIZERS:
        path = out / f"range-{optimizer}.json"
        if not path.is_file():
            progress.say(f"Learning-rate range test of {optimizer}, up to {steps} steps")
            tested = dataclasses.replace(training, optimizer=optimizer)
            _write(path, dataclasses.asdict(range_test(model, objective, tokens, tested, steps, progress)))
        tests.append(_range_test(path))
    rates = {test.optimizer: test.suggested for test in tests}
    progress.say(f"Search over optimizers and schedules: {trials} trials of {steps} steps")
    found = search(model, objective, tokens, training, rates, trials, steps, out / "trials.jsonl", progress)
    winner = best_of(found)
    table = make_table(found)
    (out / "find.md").write_text(table, encoding="utf-8")
    draw(tests, found, winner, out)
    progress.say(table)
    figures = {
        "suggested_rates": rates,
        "winner": {"optimizer": winner.optimizer, "schedule": winner.schedule, "learning_rate": winner.rate},
        "trials": [dataclasses.asdict(trial) for trial in found],
    }
    _write(out / "find.json", figures)
    chosen = dataclasses.replace(
        training, optimizer=winner.optimizer, schedule=winner.schedule, learning_rate=winner.rate
    )
    return Findings(chosen, {"find": figures})


def make_table(trials: Sequence[Trial]) -> str:
    """Markdown: the best figure of each optimizer and schedule with its rate, and who wins."""
    winner = best_of(trials)
    lines = [
        "| optimizer | " + " | ".join(SCHEDULES) + " |",
        "|---|" + "---|" * len(SCHEDULES),
    ]
    for optimizer in OPTIMIZERS:
        cells = [_cell(trials, optimizer, schedule, winner) for schedule in SCHEDULES]
        lines.append(f"| {optimizer} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{winner.optimizer} with the schedule {winner.schedule} at a learning rate of {winner.rate:.2g} wins: "
        f"{winner.figure:.4f} after {winner.curve[-1][0]} steps (trial {winner.number + 1} of {len(trials)}).",
        "Each cell: the best figure, and the learning rate it was reached at; in brackets: given up at that step, "
        "behind the median of the others; – was not tried.",
    ]
    return "\n".join(lines) + "\n"


def _cell(trials: Sequence[Trial], optimizer: str, schedule: str, winner: Trial) -> str:
    best = best_in(trials, optimizer, schedule)
    if best is None:
        return "–"
    if best.figure is None:
        return f"[{best.curve[-1][1]:.4f} at step {best.curve[-1][0]}]" if best.ending == "pruned" else best.ending
    text = f"{best.figure:.4f} ({best.rate:.1g})"
    return f"**{text}**" if best == winner else text


def _range_test(path: Path) -> RangeTest:
    raw = json.loads(path.read_text(encoding="utf-8"))
    return RangeTest(raw["optimizer"], tuple(raw["rates"]), tuple(raw["losses"]), raw["suggested"])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or absent, so that a killed run finds no half of it."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
