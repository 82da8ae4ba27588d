"""The results at a glance: latency by percentile, and throughput over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline_bench.report import milliseconds, title
from ridgeline_bench.results import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LATENCY = "#1f5fa8"
_THROUGHPUT = "#2a7f4f"
_ERRORS = "#c0392b"
_REFUSED = "#c98a1b"
_QUIET = "#666666"
_WIDE_RANGE = 30.0


def draw(result: Mapping[str, Any], sample: Sample, path: Path) -> None:
    """Write a PNG of 12 x 5 inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _latency(left, sample)
    _throughput(right, result)
    machine = result["machine"]
    figure.suptitle(title(result), fontsize=13, fontweight="bold")
    figure.supxlabel(
        f"{result['inputs']['url']}, model {result['inputs']['model'] or 'not named'}; load made on {machine['cpu']}, "
        f"{machine['cores']} cores; {result['started']}",
        fontsize=8,
        color=_QUIET,
    )
    figure.savefig(path)


def _latency(axes: Axes, sample: Sample) -> None:
    latencies = 1e3 * sample.latencies
    axes.set_title("Latency by percentile")
    axes.set_ylabel("latency [ms]")
    axes.set_xlabel("percentile of requests (log scale towards 100 %)")
    if not latencies.size:
        axes.text(0.5, 0.5, "no request succeeded", transform=axes.transAxes, ha="center", color=_ERRORS)
        return
    # x = 1 / (1 - p): p50 = 2, p90 = 10, p99 = 100. The slowest of n requests has no percentile; it is drawn beyond n.
    size = latencies.size
    x = np.geomspace(1, size, 400)
    y = np.percentile(latencies, 100 * (1 - 1 / x))
    slowest_x = max(1.6 * size, 4.0)
    axes.plot([*x, slowest_x], [*y, latencies[-1]], color=_LATENCY, linewidth=2)
    axes.set_xscale("log")
    if latencies[-1] > _WIDE_RANGE * np.median(latencies):
        axes.set_yscale("log")
        axes.set_ylim(top=2 * latencies[-1])
        axes.yaxis.set_major_formatter(_plain_numbers())
    else:
        axes.set_ylim(0, 1.12 * latencies[-1])
    marks = [(2.0, "50"), (10.0, "90"), (100.0, "99"), (1e3, "99.9"), (1e4, "99.99"), (1e5, "99.999")]
    shown = [(at, name) for at, name in marks if at <= size]
    axes.set_xlim(1, slowest_x * 1.6)
    axes.set_xticks([at for at, _ in shown], [f"{name} %" for _, name in shown], minor=False)
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.grid(True, color="#dddddd", linewidth=0.8)
    for at, name in shown[:4]:
        _mark(axes, at, float(np.percentile(latencies, 100 * (1 - 1 / at))), f"p{name}", above=False)
    _mark(axes, slowest_x, float(latencies[-1]), "max", above=True)


def _mark(axes: Axes, x: float, y: float, name: str, above: bool) -> None:
    axes.plot([x], [y], "o", color=_LATENCY, markersize=5)
    axes.annotate(
        f"{name}  {milliseconds(y / 1e3)}",
        (x, y),
        xytext=(-8, 6) if above else (8, -12),
        textcoords="offset points",
        ha="right" if above else "left",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )


def _throughput(axes: Axes, result: Mapping[str, Any]) -> None:
    figures = result["results"]
    # A last sliver of a second would be noise.
    series = [each for each in figures["per_second"] if each["seconds"] >= 0.2]
    edges = [each["second"] for each in series] + [series[-1]["second"] + series[-1]["seconds"]] if series else []
    replies = [each["replies"] / each["seconds"] for each in series]
    errors = [each["errors"] / each["seconds"] for each in series]
    refused = [each["refused"] / each["seconds"] for each in series]
    axes.set_title("Throughput over time")
    axes.set_xlabel("time since the measurement began [s]")
    axes.set_ylabel("replies per second")
    axes.grid(True, color="#dddddd", linewidth=0.8)
    if not series:
        return
    axes.stairs(replies, edges, color=_THROUGHPUT, linewidth=2, label="successful replies")
    axes.stairs(replies, edges, color=_THROUGHPUT, alpha=0.12, fill=True)
    mean = figures["throughput_requests_per_s"]
    axes.axhline(mean, color=_QUIET, linestyle="--", linewidth=1, label=f"mean {mean:,.1f}/s")
    rate = result["inputs"]["rate_requests_per_s"]
    if rate is not None:
        axes.axhline(rate, color=_LATENCY, linestyle=":", linewidth=1.2, label=f"offered {rate:g}/s")
    if any(refused):
        axes.stairs(refused, edges, color=_REFUSED, linewidth=2, label="refused (429)")
    if any(errors):
        axes.stairs(errors, edges, color=_ERRORS, linewidth=2, label="errors")
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(0, 1.3 * max([*replies, *errors, *refused, rate or 0.0, 1.0]))
    axes.legend(loc="upper center", ncols=4, fontsize=9, frameon=False, columnspacing=1.2)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _plain_numbers() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,g}")
