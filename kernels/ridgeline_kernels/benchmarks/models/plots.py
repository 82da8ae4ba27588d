"""Pictures of a run: tokens a second by size of batch, and where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ridgeline_kernels.benchmarks.models.account import FAMILIES, IDLE, OTHER
from ridgeline_kernels.benchmarks.models.records import OURS, Results

_COLORS = ("#2a6f97", "#e07a5f", "#3d9970", "#7a5195", "#b0a295", "#8d99ae", "#c9c4bc", "#6b665f")
_FAMILY_COLORS = {
    "linear": "#2a6f97",
    "attention": "#e07a5f",
    "norm": "#3d9970",
    "activation": "#f2cc8f",
    "quantize": "#7a5195",
    "embedding": "#81b29a",
    "rotary": "#b56576",
    "pooling": "#6d597a",
    "copies": "#8d99ae",
    OTHER: "#b0a295",
    IDLE: "#e9e6e1",
}


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Write throughput.png and account.png; one that would be empty is not written."""
    import matplotlib

    matplotlib.use("Agg")
    written = []
    if results.rates:
        written.append(_throughput(results, directory / "throughput.png"))
    if results.accounts:
        written.append(_account(results, directory / "account.png"))
    return written


def _throughput(results: Results, path: Path) -> Path:
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter

    models = list(dict.fromkeys(rate.model for rate in results.rates))
    kinds = list(dict.fromkeys(rate.kind for rate in results.rates))
    runners = list(dict.fromkeys(rate.runner for rate in results.rates))
    size = (3.1 * len(kinds), 2.7 * len(models) + 0.8)
    figure, grid = pyplot.subplots(len(models), len(kinds), figsize=size, layout="constrained", squeeze=False)
    for row, model in zip(grid, models, strict=True):
        for axes, kind in zip(row, kinds, strict=True):
            for index, runner in enumerate(runners):
                _line(axes, results, (model, runner, kind), _COLORS[index % len(_COLORS)])
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_ylim(bottom=0)
            axes.set_title(f"{model}, {kind + ' tokens' if kind.isdigit() else kind}", fontsize=9, loc="left")
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.25)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
    figure.supxlabel(f"real tokens in a batch, on {results.device}", fontsize=9)
    figure.supylabel("million real tokens a second", fontsize=9)
    handles = [Line2D([], [], color=_COLORS[index % len(_COLORS)], marker=".") for index in range(len(runners))]
    figure.legend(handles, runners, loc="outside upper center", ncols=min(len(runners), 4), fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _line(axes: Any, results: Results, key: tuple[str, str, str], color: str) -> None:
    rates = [rate for rate in results.rates if (rate.model, rate.runner, rate.kind) == key]
    style = "-" if key[1].startswith(OURS) else "--"
    points = sorted((rate.tokens, rate.tokens_per_s / 1e6) for rate in rates)
    axes.plot(*zip(*points, strict=True), style, color=color, marker=".") if points else None


def _account(results: Results, path: Path) -> Path:
    from matplotlib import pyplot

    spent = results.accounts
    figure, axes = pyplot.subplots(figsize=(10, 1.4 + 0.34 * len(spent)), layout="constrained")
    labels = [f"{each.model}, {each.runner}, {each.kind}: {each.tokens:,} tokens" for each in spent]
    left = [0.0] * len(spent)
    for family in (*FAMILIES, OTHER, IDLE):
        shares = [100 * each.account.seconds.get(family, 0.0) / max(each.account.total_s, 1e-12) for each in spent]
        if any(shares):
            axes.barh(labels, shares, left=left, color=_FAMILY_COLORS[family], label=family, height=0.72)
            left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, max(100.0, *left))
    axes.set_xlabel("% of the time of a run", loc="left")
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=6, fontsize=8, frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
