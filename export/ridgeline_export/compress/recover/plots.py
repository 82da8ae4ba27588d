"""Pictures of what --find saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline_export.compress.recover.range_test import RangeTest
from ridgeline_export.compress.recover.search import Trial, best_in
from ridgeline_export.compress.training import OPTIMIZERS, SCHEDULES
from ridgeline_export.errors import UsageError


def draw(tests: Sequence[RangeTest], trials: Sequence[Trial], winner: Trial, directory: Path) -> None:
    """Write range.png, trials.png and heat.png. Raises UsageError when matplotlib is missing."""
    paints: dict[str, Callable[[Any], None]] = {
        "range": lambda axes: _paint_range(axes, tests),
        "trials": lambda axes: _paint_trials(axes, trials, winner),
        "heat": lambda axes: _paint_heat(axes, trials),
    }
    for name, paint in paints.items():
        figure = _figure((9.0, 4.5))
        paint(figure.add_subplot())
        figure.tight_layout()
        figure.savefig(directory / f"{name}.png", dpi=120)


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("--find needs matplotlib; install it: pip install 'ridgeline[compress]'") from None
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def _paint_range(axes: Any, tests: Sequence[RangeTest]) -> None:
    for number, test in enumerate(tests):
        colour = f"C{number}"
        axes.plot(test.rates, test.losses, color=colour, label=f"{test.optimizer}: {test.suggested:.1g}")
        axes.axvline(test.suggested, color=colour, linestyle=":", linewidth=1)
    axes.set_xscale("log")
    finite = [loss for test in tests for loss in test.losses if np.isfinite(loss)]
    axes.set_ylim(min(finite) * 0.95 if min(finite) > 0 else None, np.quantile(finite, 0.98) * 1.2)
    axes.set(title="Loss while the learning rate rises", xlabel="learning rate", ylabel="loss, smoothed")
    axes.legend(title="suggested rate")


def _paint_trials(axes: Any, trials: Sequence[Trial], winner: Trial) -> None:
    for trial in trials:
        if trial == winner or not trial.curve:
            continue
        style = {"complete": "-", "pruned": "--", "diverged": ":"}[trial.ending]
        axes.plot(*zip(*trial.curve, strict=True), style, color="0.7", linewidth=1)
    axes.plot(
        *zip(*winner.curve, strict=True),
        color="C3",
        linewidth=2.5,
        label=f"winner: {winner.optimizer}, {winner.schedule}, {winner.rate:.2g}",
    )
    axes.set(title="All trials (dashed: given up early)", xlabel="step", ylabel="figure on validation texts")
    axes.legend()


def _paint_heat(axes: Any, trials: Sequence[Trial]) -> None:
    best = [[best_in(trials, optimizer, schedule) for schedule in SCHEDULES] for optimizer in OPTIMIZERS]
    figures = np.array([[np.nan if cell is None else cell.figure for cell in row] for row in best], np.float64)
    axes.imshow(np.ma.masked_invalid(figures), aspect="auto", cmap="viridis")
    middle = (np.nanmin(figures) + np.nanmax(figures)) / 2
    for (row, column), value in np.ndenumerate(figures):
        colour = "white" if value < middle else "black"
        axes.text(column, row, _label(best[row][column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(SCHEDULES)), SCHEDULES)
    axes.set_yticks(range(len(OPTIMIZERS)), OPTIMIZERS)
    axes.set_title("Best figure of each optimizer and schedule (white: given up, behind the median of the others)")


def _label(best: Trial | None) -> str:
    if best is None:
        return "–"
    if best.figure is not None:
        return f"{best.figure:.3f}\nat {best.rate:.1g}"
    return f"{best.curve[-1][1]:.3f}\nstep {best.curve[-1][0]}" if best.ending == "pruned" else best.ending
