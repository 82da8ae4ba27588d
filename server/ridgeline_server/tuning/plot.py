"""Speed against quality, one point a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ridgeline_server.tuning.candidate import Arithmetic, Candidate
from ridgeline_server.tuning.report import note
from ridgeline_server.tuning.results import Findings, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#1f5fa8", "#2a7f4f", "#c0392b", "#8e5ba6", "#c98a1b", "#2b8c94", "#7f5539", "#555555")
_MARKERS = {"openvino": "o", "onnxruntime": "s", "tensorrt": "^"}
_QUIET = "#666666"
_BEST = "#e0a000"
# Below this a cosine in fp32 says nothing: plans there are as good as exact.
_EXACT = 1e-7


def draw(findings: Findings, title: str, machine: str, path: Path) -> None:
    """Write a PNG of 12 x 7 inches. Raises ImportError without matplotlib, OSError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = [trial for trial in findings.trials if trial.rate is not None and trial.quality is not None]
    _points(axes, shown, findings)
    _floor(axes, findings)
    axes.set_xlabel("1 - mean cosine to fp32 (log scale): better answers to the left")
    axes.set_ylabel("texts per second, sorted by length (median, range)")
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    figure.supxlabel(
        f"{machine}; {findings.texts} texts of {findings.corpus}; labels: streams x threads, batch tokens",
        fontsize=8,
        color=_QUIET,
    )
    if shown:
        axes.plot([], [], "*", color=_BEST, markeredgecolor="black", markersize=14, label="best")
        axes.plot([], [], "o", color=_QUIET, markerfacecolor="white", markersize=8, label="hollow: not kept")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    figure.savefig(path)


def _points(axes: Axes, shown: Sequence[Trial], findings: Findings) -> None:
    axes.set_xscale("log")
    if not shown:
        axes.text(0.5, 0.5, "no plan was measured", transform=axes.transAxes, ha="center", color=_QUIET)
        return
    highest = max(max(trial.texts_per_s) for trial in shown)
    axes.set_ylim(0, 1.08 * highest)
    groups = dict.fromkeys(trial.candidate.arithmetic for trial in shown)
    for color, arithmetic in zip(_cycle(len(groups)), groups, strict=True):
        members = [trial for trial in shown if trial.candidate.arithmetic == arithmetic]
        _group(axes, arithmetic, members, color, findings)
    xs = [_x(trial) for trial in shown] + [max(1 - findings.min_quality, _EXACT)]
    axes.set_xlim(min(xs) / 2, max(xs) * 5)
    _labels(axes, shown, 0.028 * 1.08 * highest, findings)


def _group(axes: Axes, arithmetic: Arithmetic, members: Sequence[Trial], color: str, findings: Findings) -> None:
    name = f"{arithmetic.variant} on {arithmetic.runtime}, {arithmetic.precision_in_words}"
    marker = _MARKERS[arithmetic.runtime]
    axes.plot([], [], marker, color=color, markersize=8, label=name)
    for trial in members:
        x, rate = _x(trial), trial.rate or 0.0
        is_kept = trial.obstacle(findings.min_quality) is None
        below, above = rate - min(trial.texts_per_s), max(trial.texts_per_s) - rate
        axes.errorbar([x], [rate], yerr=[[below], [above]], color=color, linewidth=1, capsize=2, alpha=0.5)
        axes.plot([x], [rate], marker, color=color, markersize=8, markerfacecolor=color if is_kept else "white")
        if trial is findings.best:
            axes.plot([x], [rate], "*", color=_BEST, markeredgecolor="black", markersize=20, zorder=5)


def _labels(axes: Axes, shown: Sequence[Trial], gap: float, findings: Findings) -> None:
    """Beside each point, moved apart where points of about one quality lie on each other."""
    placed: list[tuple[float, float]] = []
    for trial in sorted(shown, key=lambda trial: trial.rate or 0.0):
        x, rate = _x(trial), trial.rate or 0.0
        near = [y for other, y in placed if 1 / 3 < other / x < 3]
        y = max([rate, *(taken + gap for taken in near)])
        placed.append((x, y))
        is_best = trial is findings.best
        text = _plan(trial.candidate) + ("  best" if is_best else "")
        reason = note(trial, findings)
        axes.annotate(
            text,
            (x, rate),
            xytext=(1.35 * x, y),
            fontsize=8.5,
            va="center",
            fontweight="bold" if is_best else "normal",
            color=_QUIET if reason and not is_best else "black",
            arrowprops={"arrowstyle": "-", "color": "#bbbbbb", "linewidth": 0.7},
        )


def _floor(axes: Axes, findings: Findings) -> None:
    x = max(1 - findings.min_quality, _EXACT)
    axes.axvline(x, color=_COLORS[2], linestyle="--", linewidth=1.2)
    axes.axvspan(x, axes.get_xlim()[1], color=_COLORS[2], alpha=0.05)
    axes.annotate(
        f"floor: cosine {findings.min_quality:g}",
        (x, 0.01),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        rotation=90,
        va="bottom",
        fontsize=9,
        color=_COLORS[2],
    )


def _x(trial: Trial) -> float:
    assert trial.quality is not None
    return max(1 - trial.quality.mean, _EXACT)


def _plan(candidate: Candidate) -> str:
    threads = max(1, candidate.threads // candidate.streams)
    return f"{candidate.streams}x{threads}, {candidate.max_batch_tokens}"


def _cycle(count: int) -> list[str]:
    return [_COLORS[index % len(_COLORS)] for index in range(count)]
