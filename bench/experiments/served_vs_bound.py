"""Served throughput against the bound: the same plan run offline on the same texts sorted by length.

Each round measures the bound, the engine replayed in process without HTTP, and the server, one after the other; ratios
are taken within a round, and the median over the rounds counts.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options
from experiments.lab.aside import run_module
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_least, median_of, ratio_of_rounds, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TARGETS = {load.Shape(32, 1): 0.70, load.Shape(256, 1): 0.80, load.Shape(8, 32): 0.85}
_HOST_EFFICIENCY = 0.85


class Rounds:
    """What the rounds measured: texts per second and CPU time per text."""

    def __init__(self, common: options.Common, texts: Path, duration_s: float, passes: int) -> None:
        self.bound: list[float] = []
        self.replayed: dict[load.Shape, list[float]] = {shape: [] for shape in _TARGETS}
        self.served: dict[load.Shape, list[float]] = {shape: [] for shape in _TARGETS}
        self.cpu_us: dict[load.Shape, list[dict[str, float]]] = {shape: [] for shape in _TARGETS}
        self.details: list[dict[str, Any]] = []
        self._common = common
        self._texts = texts
        self._duration_s = duration_s
        self._passes = passes

    def measure(self, server: Server, budgets: Sequence[int]) -> int:
        """One round; returns the budget that was best for the bound."""
        bundle, flags = self._common.bundle, self._common.flags
        bounds = []
        for budget in budgets:
            say(f"bound, {budget} tokens a batch")
            given = ("--budget", budget, "--passes", self._passes)
            bounds.append(run_module("experiments.lab.offline", "bound", bundle, self._texts, *given, *flags))
        best = max(bounds, key=lambda each: each["texts_per_s"])
        self.bound.append(best["texts_per_s"])
        self.details.append({"bounds": bounds})
        for shape in _TARGETS:
            say(f"replay, {shape.name}")
            given = ("--connections", shape.connections, "--texts-per-request", shape.texts)
            timed = ("--duration", self._duration_s)
            replayed = run_module("experiments.lab.replay", bundle, self._texts, *given, *timed, *flags)
            self.replayed[shape].append(replayed["texts_per_s"])
            say(f"served, {shape.name}")
            served, cpu_us = _served(server, shape, self._texts, self._duration_s)
            self.served[shape].append(served["results"]["throughput_texts_per_s"])
            self.cpu_us[shape].append(cpu_us)
            self.details[-1][shape.name] = {"replayed": replayed, "served": served}
        return int(best["budget"])

    def figures(self) -> dict[str, Any]:
        """Medians, by load."""
        loads = {
            shape.name: {
                "served_texts_per_s": statistics.median(self.served[shape]),
                "replayed_texts_per_s": statistics.median(self.replayed[shape]),
                "served_over_bound": ratio_of_rounds(self.served[shape], self.bound),
                "replayed_over_bound": ratio_of_rounds(self.replayed[shape], self.bound),
                "host_efficiency": ratio_of_rounds(self.served[shape], self.replayed[shape]),
                "cpu_us_per_text": median_of(self.cpu_us[shape]),
            }
            for shape in _TARGETS
        }
        return {"bound_texts_per_s": statistics.median(self.bound), "loads": loads, "rounds": self.details}


def _served(
    server: Server, shape: load.Shape, texts: Path, duration_s: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """The load's result, and µs of CPU per text over the whole run, its warm-up included."""
    answered, cpu = server.answered(), server.cpu()
    result = load.run(server.url, shape, texts, duration_s)
    spent = server.cpu() - cpu
    count = (server.answered() - answered) * shape.texts
    generator_us = result["generator"]["cpu_us_per_request"] / shape.texts
    cpu_us = {
        "server": 1e6 * spent.server_s / count,
        "workers": 1e6 * spent.workers_s / count,
        "generator": generator_us,
    }
    return result, cpu_us


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets of every load."""
    loads = figures["loads"]
    names = {shape.name: target for shape, target in _TARGETS.items()}
    served = [at_least(f"served / bound, {name}", loads[name]["served_over_bound"], names[name]) for name in names]
    host = [at_least(f"served / replayed, {name}", loads[name]["host_efficiency"], _HOST_EFFICIENCY) for name in names]
    return served + host


def draw(figures: Mapping[str, Any]) -> Figure:
    """Bars as shares of the bound with the targets as lines; CPU time per text beside them."""
    figure, (left, right) = drawing.canvas("Served throughput as a share of what the bare runtime does", 2)
    loads = figures["loads"]
    served = [each["served_over_bound"] for each in loads.values()]
    replayed = [each["replayed_over_bound"] for each in loads.values()]
    places = range(len(loads))
    engine = left.bar([at - 0.2 for at in places], replayed, 0.38, color=drawing.AMBER, label="engine without HTTP")
    bars = left.bar([at + 0.2 for at in places], served, 0.38, color=drawing.BLUE, label="server")
    drawing.label_bars(left, engine, [f"{value:.0%}" for value in replayed])
    drawing.label_bars(left, bars, [f"{value:.0%}" for value in served])
    for at, target in enumerate(_TARGETS.values()):
        left.plot([at, at + 0.4], [target, target], color=drawing.RED, linewidth=2, label=None if at else "target")
    left.axhline(1.0, color=drawing.GREY, linewidth=1)
    left.set_title(f"1.0 = offline, texts sorted by length: {figures['bound_texts_per_s']:,.0f} texts/s")
    left.set_xticks(list(places), [name.replace(", ", ",\n") for name in loads])
    left.set_ylim(0, 1.25)
    left.legend(loc="upper left", ncols=3, frameon=False, fontsize=9)
    bottom = [0.0] * len(loads)
    for part, colour in {"server": drawing.BLUE, "workers": drawing.GREEN, "generator": drawing.GREY}.items():
        values = [each["cpu_us_per_text"][part] for each in loads.values()]
        stacked = right.bar(list(places), values, 0.5, bottom=bottom, color=colour, label=part)
        shown = [f"{value:,.0f}" if value > 200 else "" for value in values]
        right.bar_label(stacked, shown, label_type="center", color="white", fontsize=9)
        bottom = [below + value for below, value in zip(bottom, values, strict=True)]
    right.set_title("CPU time per text [µs]")
    right.set_xticks(list(places), [name.replace(", ", ",\n") for name in loads])
    right.set_ylim(0, 1.2 * max(bottom))
    right.legend(loc="upper right", ncols=3, frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=1, help="times that everything is measured")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of each load and replay")
    parser.add_argument("--count", type=int, default=600, help="texts")
    parser.add_argument("--passes", type=int, default=1, help="timed passes over the texts for the bound")
    parser.add_argument("--budgets", type=options.numbers, default=[256, 512, 1024], help="tokens a batch of the bound")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "served_vs_bound.txt"
    load.write_texts(texts, arguments.count, common.texts_from)
    rounds = Rounds(common, texts, arguments.duration, arguments.passes)
    budgets = arguments.budgets
    with Server(common.bundle, common.flags, common.out / "served_vs_bound.log") as server:
        for _ in range(arguments.rounds):
            # All budgets in the first round; the one that was best there is the bound of the others.
            budgets = [rounds.measure(server, budgets)]
        said = server.said()
    figures = rounds.figures()
    inputs = {**common.inputs, "server_says": said, "rounds": arguments.rounds, "count": arguments.count}
    inputs |= {"duration_s": arguments.duration, "passes": arguments.passes}
    return report(common.out, "served_vs_bound", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
