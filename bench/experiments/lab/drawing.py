"""Plots that need no table: shared colours, canvases and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from ridgeline_bench.machine import describe_machine

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREEN, RED, AMBER, GREY = "#1f5fa8", "#2a7f4f", "#c0392b", "#c98a1b", "#666666"
SERIES = (BLUE, GREEN, AMBER, "#7d4fa0", "#2b8c9b", RED, "#8a6d3b", "#4a4a4a", "#b0568f", "#6b8e23", "#3f6f9f")


def canvas(title: str, plots: int = 1, height: float = 5.0) -> tuple[Figure, list[Axes]]:
    """A figure 12 inches wide with `plots` axes side by side, its machine named below."""
    figure = Figure(figsize=(12, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, plots, squeeze=False)[0]
    figure.suptitle(title, fontsize=13, fontweight="bold")
    machine = describe_machine()
    figure.supxlabel(f"{machine['cpu']}, {machine['cores']} cores, shared with the load", fontsize=8, color=GREY)
    for each in axes:
        each.grid(True, color="#dddddd", linewidth=0.8)
        each.set_axisbelow(True)
    return figure, list(axes)


def label_bars(axes: Axes, bars: Any, labels: Sequence[str]) -> None:
    """A figure above each bar."""
    axes.bar_label(bars, labels=list(labels), padding=2, fontsize=9)


def plain_log(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(axes.yaxis.get_major_formatter())
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))


def target_line(axes: Axes, value: float, text: str, start: float = 0.0, end: float = 1.0) -> None:
    """A dashed line at a target, over a part of the axes' width."""
    axes.axhline(value, start, end, color=RED, linestyle="--", linewidth=1.4)
    axes.annotate(
        text, (end, value), xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points",
        ha="right", fontsize=8, color=RED,
    )  # fmt: skip
