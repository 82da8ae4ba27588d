"""The picture of the efficient attentions: error against FLOPs, a line for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLORS = {
    "Linformer": "#8d6a9f",
    "Nyström": "#2a6f97",
    "LSH": "#d1495b",
    "block-sparse": "#3f8f5f",
    "local + global": "#e09f3e",
}


def write_plot(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a panel for each kind of inputs, at the longest length; down and left is better.

    points: entries with inputs, length, method, knob, value, share_of_flops, error
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import PercentFormatter

    longest = max(point["length"] for point in points)
    shown = [point for point in points if point["length"] == longest]
    kinds = list(dict.fromkeys(point["inputs"] for point in shown))
    figure, panels = pyplot.subplots(
        1, len(kinds), figsize=(1.5 + 4.2 * len(kinds), 4.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        of_kind = [point for point in shown if point["inputs"] == kind]
        for method in dict.fromkeys(point["method"] for point in of_kind):
            line = [point for point in of_kind if point["method"] == method]
            color = COLORS.get(method, "#555555")
            xs, ys = ([point[key] for point in line] for key in ("share_of_flops", "error"))
            axes.plot(xs, ys, marker="o", markersize=4.5, color=color, label=f"{method} ({line[0]['knob']})")
            for point in (line[0], line[-1]):
                axes.annotate(
                    point["value"],
                    (point["share_of_flops"], point["error"]),
                    textcoords="offset points",
                    xytext=(4, 4),
                    fontsize=7.5,
                    color=color,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(1e-3, 0.7 * min(point["error"] for point in shown)))
        axes.axvline(1.0, color="#333333", linewidth=0.8)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title(f"{kind} ({of_kind[0]['entropy']:.1f} nats)", fontsize=10)
        axes.set_xlabel("FLOPs, of exact attention's")
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0][0].set_ylabel("relative error of the outputs")
    figure.suptitle(
        f"Efficient attention at {longest:,} tokens: error against cost; down and left is better", fontsize=11
    )
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8.5, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
