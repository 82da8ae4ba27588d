"""Speed against quality: a point a plan, a panel a runtime, and the line of those that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline_export.compress.report.frontier import Point, unbeaten
from ridgeline_export.compress.report.plot import QUIET, add_legend
from ridgeline_export.compress.report.quality import MEANINGS
from ridgeline_export.compress.report.tables import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#1f5fa8", "#c0392b", "#2a7f4f", "#8e5ba6", "#c98a1b", "#2b8c94", "#7f5539", "#d1477a", "#5a6b1f", "#444444")
_MARKERS = {"fp32": "o", "int8-dynamic": "s", "int8": "D"}
_ORIGINAL = "#999999"
_LABEL_SIZE = 8.0
# Where a label may lie beside its point, in points (1/72 inch), the first that is free; then further away.
_DIRECTIONS = ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1))
_DISTANCES = (9, 18, 30, 44, 60, 80, 104)


def draw(points: Sequence[Point], machines: Sequence[str], directory: Path) -> None:
    """Write pareto.png and pareto.svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = [name for name in TITLES if any(point.metric == name for point in points)] or ["spearman"]
    runtimes = list(dict.fromkeys(point.runtime for point in points)) or ["onnxruntime"]
    figure = Figure(figsize=(1.5 + 6.5 * len(runtimes), 1.5 + 5.2 * len(metrics)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(metrics), len(runtimes), squeeze=False, sharey="row")
    for metric, row in zip(metrics, grid, strict=True):
        for runtime, axes in zip(runtimes, row, strict=True):
            shown = [point for point in points if (point.metric, point.runtime) == (metric, runtime)]
            _panel(axes, shown)
            axes.set_title(runtime, fontsize=11)
            axes.set_xlabel("× throughput of the original's fp32 (log scale)", fontsize=9)
        row[0].set_ylabel(f"{TITLES[metric]}: {MEANINGS[metric]}", fontsize=8.5)
    figure.suptitle("Speed against quality", fontsize=13, fontweight="bold")
    note = "each speed over its own report's baseline; " if len({point.report for point in points} - {None}) > 1 else ""
    add_legend(figure, _legend(points), note + "; ".join(machines))
    figure.canvas.draw()
    for axes in grid.ravel():
        _labels(axes)
    for suffix in ("png", "svg"):
        figure.savefig(directory / f"pareto.{suffix}")


def _panel(axes: Axes, shown: Sequence[Point]) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.25, y=0.15)
    if not shown:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=QUIET)
        return
    best = sorted({(point.speed, point.quality) for point in unbeaten(shown)})
    axes.step(
        [x for x, _ in best], [y for _, y in best], where="pre", color="#d9a400", linewidth=1.4, zorder=2, alpha=0.8
    )
    for point in shown:
        color = _ORIGINAL if point.report is None else _COLORS[point.report % len(_COLORS)]
        marker = _MARKERS.get(point.variant, "^")
        axes.plot(point.speed, point.quality, marker, color=color, markersize=8, markeredgecolor="white", zorder=3)
        axes.annotate(
            point.name.rpartition("/")[2],  # of a hub id, its name alone
            (point.speed, point.quality),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=_LABEL_SIZE,
            parse_math=False,
            color=QUIET if point.is_original else "black",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def _labels(axes: Axes) -> None:
    """Move each label beside its point to where it covers no point, no label and no edge."""
    from matplotlib.text import Annotation

    renderer: Any = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    notes = [child for child in axes.texts if isinstance(child, Annotation)]
    frame = axes.get_window_extent(renderer)
    scale = axes.figure.dpi / 72
    taken = []
    for note in notes:
        x, y = axes.transData.transform(note.xy)
        taken.append((x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale))
    inside = (frame.x0, frame.y0, frame.x1, frame.y1)
    # From the top down, so that the lines to two labels beside each other do not cross.
    for note in sorted(notes, key=lambda note: (-float(note.xy[1]), -float(note.xy[0]))):
        x, y = axes.transData.transform(note.xy)
        size = note.get_window_extent(renderer)
        width, height = size.width + 2 * scale, size.height + 1 * scale
        spots = [
            _spot(x, y, width, height, right, up, distance * scale)
            for distance in _DISTANCES
            for right, up in _DIRECTIONS
        ]
        spot = min(spots, key=lambda box: _overlap(box, taken) + _outside(box, inside))
        taken.append(spot)
        center = (spot[0] + spot[2]) / 2 - x, (spot[1] + spot[3]) / 2 - y
        note.set_position((center[0] / scale, center[1] / scale))


Box = tuple[float, float, float, float]


def _spot(x: float, y: float, width: float, height: float, right: float, up: float, distance: float) -> Box:
    middle_x = x + right * (distance + width / 2)
    middle_y = y + up * distance + (up > 0) * height / 2 - (up < 0) * height / 2
    return middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2


def _overlap(box: Box, others: Sequence[Box]) -> float:
    """Area that a box shares with others."""
    return sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in others
    )


def _outside(box: Box, frame: Box) -> float:
    """Area of a box that lies outside of the frame."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, [frame])


def _legend(points: Sequence[Point]) -> list[Any]:
    from matplotlib.lines import Line2D

    variants = list(dict.fromkeys(point.variant for point in points))
    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS.get(name, "^"), color=QUIET, markersize=8, label=name)
        for name in variants
    ]
    handles.append(Line2D([], [], linestyle="", marker="o", color=_ORIGINAL, markersize=8, label="original"))
    handles.append(Line2D([], [], color="#d9a400", label="nothing on this runtime is faster and better"))
    return handles
