"""Sweeps as a picture: a column a factor, a row a figure, in units, on logarithmic scales."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_estimate.summary.curves import Panel, panels
from ridgeline_estimate.summary.question import Question
from ridgeline_estimate.summary.sweep import Sweep
from ridgeline_estimate.summary.tables import tokens_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_QUIET = "#666666"
_GRID = "#e4e4e4"
_MOST_TICKS = 8
_COLORS = 64
_LONG_NAME = 6
_NARROW = 100.0
_LEAST_SPAN = 4.0
_AXIS_NAMES: Mapping[str, str] = {
    "batch": "batch [sequences]",
    "seq": "sequence length [tokens]",
    "past": "tokens in the KV cache",
    "target": "target length [tokens]",
    "hidden": "hidden size",
    "ffn": "feed-forward width",
    "vocab": "vocabulary [words]",
    "heads": "attention heads",
    "kv-heads": "key and value heads",
    "data-parallel": "data-parallel devices",
    "tensor-parallel": "tensor-parallel devices",
}


def draw(sweeps: Sequence[Sweep], title: str, subtitle: str, path: Path) -> None:
    """Write a PNG. Raises ImportError without matplotlib, OSError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    rows = panels(sweeps)
    size = (2.6 + 3.3 * len(sweeps), 1.3 + 2.3 * len(rows))
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(sweeps), squeeze=False, sharex="col", sharey="row")
    for row, panel in enumerate(rows):
        for column, sweep in enumerate(sweeps):
            axes = grid[row][column]
            _panel(axes, panel, sweep)
            if column == 0:
                axes.set_ylabel(panel.name)
            if row == len(rows) - 1:
                _name_values(axes, sweep)
        _ticks(grid[row][0], panel)
        grid[row][-1].legend(
            handles=_handles(panel), loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9
        )
    figure.suptitle(title, fontsize=12, fontweight="bold")
    figure.supxlabel(subtitle, fontsize=8, color=_QUIET)
    # A dozen colours and their edges: a palette makes the file a third as large.
    figure.savefig(path)
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(_COLORS)
    small.save(path, optimize=True)


def _panel(axes: Axes, panel: Panel, sweep: Sweep) -> None:
    xs = _xs(sweep)
    for curve in panel.curves:
        points = [(x, value) for x, answer in zip(xs, sweep.answers, strict=True) if (value := curve.of(answer))]
        if not points:
            continue
        axes.plot(
            [x for x, _ in points],
            [value for _, value in points],
            "o-" if sweep.is_numeric else "o",
            color=curve.color,
            linewidth=2.2 if curve.is_total else 1.3,
            markersize=(5 if sweep.is_numeric else 8) if curve.is_total else (3 if sweep.is_numeric else 6),
            zorder=2 if curve.is_total else 3,
        )
    if _is_logarithmic(sweep):
        axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=panel.base)
    axes.grid(True, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _ticks(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.get_ylim()
    if high < _LEAST_SPAN * low:
        # What hardly changes should look so, and some tick should be seen.
        low, high = low / 2, high * 2
        axes.set_ylim(low, high)
    if panel.base == 10 and high < _NARROW * low:
        # Powers of ten alone would leave one tick or none.
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=7))
    else:
        axes.yaxis.set_major_locator(LogLocator(base=panel.base, numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _shortest(panel.text(value))))
    axes.yaxis.set_minor_locator(NullLocator())


def _shortest(text: str) -> str:
    """ "10 GFLOP" for "10.0 GFLOP", "10B" for "10.0B"."""
    return re.sub(r"(\d)\.0+(?!\d)", r"\1", text)


def _name_values(axes: Axes, sweep: Sweep) -> None:
    """Ticks at the values that were asked for."""
    from matplotlib.ticker import NullLocator

    xs = _xs(sweep)
    step = -(-len(xs) // _MOST_TICKS) if sweep.is_numeric else 1
    shown = list(range(0, len(xs), step))
    labels = [_value_text(sweep.values[index]) for index in shown]
    axes.set_xticks(
        [xs[index] for index in shown],
        labels,
        minor=False,
        rotation=20 if any(len(label) > _LONG_NAME for label in labels) else 0,
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_AXIS_NAMES.get(sweep.factor, sweep.factor))
    if not sweep.is_numeric:
        axes.set_xlim(-0.5, len(xs) - 0.5)


def _handles(panel: Panel) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=curve.color, linewidth=2.2 if curve.is_total else 1.3, marker="o", label=curve.name)
        for curve in panel.curves
    ]


def _value_text(value: int | str) -> str:
    if isinstance(value, str):
        return value
    if value >= 1024 and value % 1024 == 0:
        return f"{value // 1024}k"
    return str(value)


def _xs(sweep: Sweep) -> list[float]:
    if not sweep.is_numeric:
        return [float(index) for index in range(len(sweep.values))]
    return [float(value) for value in sweep.values]


def _is_logarithmic(sweep: Sweep) -> bool:
    values = _xs(sweep)
    return sweep.is_numeric and min(values) > 0 and max(values) >= 4 * min(values)


def title(sweeps: Sequence[Sweep]) -> str:
    """Which model it is."""
    names = dict.fromkeys(answer.subject.name for sweep in sweeps for answer in sweep.answers)
    return f"{', '.join(names)}: what each factor costs"


def subtitle(question: Question, sweeps: Sequence[Sweep]) -> str:
    """What stays as it is while one factor changes."""
    answers = [answer for sweep in sweeps for answer in sweep.answers]
    devices = dict.fromkeys(answer.prediction.device.name for answer in answers if answer.prediction)
    precisions = dict.fromkeys(answer.precision for answer in answers)
    base = f"{question.mode}, {tokens_text(question.workload())}" + (f" after {question.past}" if question.past else "")
    attention = "attention scores in memory" if question.fused_attention is False else ""
    texts = [base, ", ".join(precisions), attention, ", ".join(devices)]
    return "; ".join(text for text in texts if text) + "; each column changes one factor"
