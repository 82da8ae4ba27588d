"""Predicted against measured latency, for models and shapes that the calibration of the same run has not seen.

Calibrates every way to run on this machine as `ridgeline devices --calibrate` does, then times random models of several
architectures and sizes and the bundle through each, and predicts the same runs from the models' configs and, apart from
that, from their graphs. Runs with several batches at once have all slots busy.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, options
from experiments.lab.aside import run_module
from experiments.lab.verdicts import Verdict, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEDIAN, _P90 = 0.15, 0.35
_WAYS = {"config": "config_s", "graph": "graph_s"}
_PRECISIONS = {"fp32": ("fp32",), "int8": ("int8", "int8-dynamic")}

Point = Mapping[str, Any]


def errors(points: Sequence[Point], way: str) -> list[float]:
    """Absolute errors of the predictions as shares of what was measured. way: "config" or "graph"."""
    return [abs(point[_WAYS[way]] / point["measured_s"] - 1.0) for point in points]


def summary(points: Sequence[Point]) -> dict[str, Any]:
    """Median and 90th percentile of the errors by precision and way, of all points and by runtime, model and bound."""
    groups: dict[str, dict[str, Any]] = {}
    for name, precisions in _PRECISIONS.items():
        chosen = [point for point in points if point["precision"] in precisions]
        if not chosen:
            continue
        groups[name] = {way: _spread(errors(chosen, way)) for way in _WAYS}
        for key in ("runtime", "model", "bound"):
            values = sorted({point[key] for point in chosen})
            groups[name][f"by_{key}"] = {
                value: _spread(errors([point for point in chosen if point[key] == value], "config")) for value in values
            }
    return groups


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "p90": ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
        "largest": ordered[-1],
        "count": len(ordered),
    }


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets, for both precisions and both ways to count; what was not measured misses them."""
    found = []
    for precision in _PRECISIONS:
        for way in _WAYS:
            spread = figures["errors"].get(precision, {}).get(way, {})
            found.append(at_most(f"{precision} from the {way}: median error", spread.get("median"), _MEDIAN))
            found.append(at_most(f"{precision} from the {way}: 90th percentile", spread.get("p90"), _P90))
    return found


def draw(figures: Mapping[str, Any]) -> Figure:
    """Predicted over measured seconds, both logarithmic, counts from configs and from graphs side by side."""
    title = "Predicted and measured latency of models and shapes that the fit has not seen"
    figure, axes = drawing.canvas(title, 2, 6.0)
    for each, way in zip(axes, _WAYS, strict=True):
        _scatter(each, figures["points"], way)
        lines = []
        for name, group in figures["errors"].items():
            lines.append(f"{name}: median {group[way]['median']:.0%}, 90 % within {group[way]['p90']:.0%}")
        each.set_title(f"counted from the {way}\n" + "; ".join(lines), fontsize=10)
    axes[0].legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def _scatter(axes: Axes, points: Sequence[Point], way: str) -> None:
    ways = sorted({(point["runtime"], point["precision"], point["concurrency"]) for point in points})
    for colour, key in zip(drawing.SERIES, ways, strict=False):
        runtime, precision, concurrency = key
        own = [point for point in points if (point["runtime"], point["precision"], point["concurrency"]) == key]
        measured = [1e3 * point["measured_s"] for point in own]
        predicted = [1e3 * point[_WAYS[way]] for point in own]
        at_once = f", {concurrency} at once" if concurrency > 1 else ""
        axes.scatter(measured, predicted, s=16, color=colour, alpha=0.75, label=f"{runtime} {precision}{at_once}")
    ends = [1e3 * min(point["measured_s"] for point in points) / 1.5, 1e3 * max(p["measured_s"] for p in points) * 1.5]
    axes.plot(ends, ends, color=drawing.GREY, linewidth=1)
    for factor in (1.0 - _P90, 1.0 + _P90):
        axes.plot(ends, [factor * end for end in ends], color=drawing.GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("measured [ms]; dotted: 35 % off")
    axes.set_ylabel("predicted [ms]")


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2, help="times that each shape has its turn")
    parser.add_argument("--models", type=Path, default=Path("build/random-models"), help="folder for random models")
    arguments = parser.parse_args()
    common = options.common(arguments)
    say("exporting random models that are not there yet")
    run_module("experiments.lab.random_models", arguments.models)
    say("calibrating, measuring and predicting")
    told = run_module("experiments.lab.roofline_runs", common.bundle, arguments.models, "--rounds", arguments.rounds)
    figures = {**told, "errors": summary(told["points"])}
    inputs = {**common.inputs, "rounds": arguments.rounds}
    return report(common.out, "roofline", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
