"""The scheduler's simulation: held to a running server, then asked about policies and about many replicas.

Batch times are recorded from the server under load, by shape, and the server's own time per request is measured. The
simulation must predict the measured throughput of each load within 15 %.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from experiments.lab.config import server_config  # first: it sets what numpy reads when it is imported

from experiments.lab import drawing, load, options  # isort: skip
from experiments.lab.recorder import Recorder
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_most, report, say

from ridgeline_server.engine.loading import LoadedModel, load_models
from ridgeline_server.tuning.simulation import ClosedLoop, OpenLoop, Outcome, Scenario, SimulatedReplica, simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOADS = (load.Shape(32, 1), load.Shape(256, 1))
_OPEN_SHARE = 0.7
_REPLICAS = (1, 2, 4, 8, 16, 32, 64)
_CLIENTS_PER_REPLICA = 64
_POLICIES = {"oldest first": 0.0, "75 ms": 0.075, "200 ms": 0.2, "no bound": inf}
_HAND_OVER_S = 2e-4


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    return [
        at_most(f"{each['load']}: |simulated / measured - 1|", abs(each["simulated"] / each["measured"] - 1), 0.15)
        for each in figures["loads"]
    ]


def measure(
    server: Server, shape: load.Shape, common: options.Common, base: Scenario, duration_s: float
) -> tuple[dict[str, Any], Scenario]:
    """Put a load on the server, and simulate the same with what was recorded meanwhile."""
    say(shape.name)
    cpu_before, answered_before = server.cpu(), server.answered()
    with Recorder(server) as recorder:
        told = load.run(server.url, shape, common.out / "simulation.txt", duration_s)
    cpu, answered = server.cpu() - cpu_before, server.answered() - answered_before
    results = told["results"]
    concurrency = base.replicas[0].concurrency
    replicas = [SimulatedReplica(recorder.batch_s(base.grid), concurrency)] * len(base.replicas)
    traffic = OpenLoop(shape.rate) if shape.rate is not None else ClosedLoop(shape.connections)
    scenario = replace(
        base, replicas=replicas, traffic=traffic, host_s=cpu.server_s / answered, duration_s=max(duration_s, 20.0)
    )
    outcome = simulate(scenario)
    return {
        "load": shape.name,
        "measured": results["throughput_texts_per_s"],
        "simulated": outcome.texts_per_s,
        "measured_p50_s": results["latency_s"]["p50"],
        "simulated_p50_s": outcome.percentile_s(50),
        "measured_p99_s": results["latency_s"]["p99"],
        "simulated_p99_s": outcome.percentile_s(99),
        "host_s": scenario.host_s,
        "batches": recorder.batches,
    }, scenario


def policies(scenario: Scenario, capacity: float) -> list[dict[str, Any]]:
    """Every age bound under the three loads."""
    traffics: dict[str, ClosedLoop | OpenLoop] = {
        "32 clients": ClosedLoop(32),
        "256 clients": ClosedLoop(256),
        "70 % open": OpenLoop(0.7 * capacity),
    }
    return [
        {"policy": name, "traffic": traffic_name, **_told(simulate(replace(scenario, traffic=traffic, max_age_s=age)))}
        for name, age in _POLICIES.items()
        for traffic_name, traffic in traffics.items()
    ]


def growth(scenario: Scenario) -> list[dict[str, Any]]:
    """Throughput and p99 with more and more replicas like the recorded one; as it is, and with a free host."""
    told = []
    for count in _REPLICAS:
        for host_s in (scenario.host_s, 0.0):
            many = replace(
                scenario,
                replicas=list(scenario.replicas[:1]) * count,
                traffic=ClosedLoop(_CLIENTS_PER_REPLICA * count),
                host_s=host_s,
                duration_s=8.0,
            )
            told.append({"replicas": count, "host_s": host_s, **_told(simulate(many))})
    return told


def _told(outcome: Outcome) -> dict[str, float]:
    return {
        "texts_per_s": outcome.texts_per_s,
        "p50_s": outcome.percentile_s(50),
        "p99_s": outcome.percentile_s(99),
        "padding_waste": outcome.padding_waste,
        "rows": outcome.rows,
    }


def draw(figures: Mapping[str, Any]) -> Figure:
    """Measured against simulated; the age bounds; the growth with replicas."""
    figure, (left, middle, right) = drawing.canvas("The scheduler, simulated", 3, 5.4)
    _draw_loads(left, figures["loads"])
    _draw_policies(middle, figures["policies"])
    _draw_growth(right, figures["growth"])
    return figure


def _draw_loads(axes: Any, loads: Sequence[Mapping[str, Any]]) -> None:
    for offset, name, colour in ((-0.2, "measured", drawing.BLUE), (0.2, "simulated", drawing.AMBER)):
        bars = axes.bar([i + offset for i in range(len(loads))], [each[name] for each in loads], 0.38, color=colour)
        drawing.label_bars(axes, bars, [f"{each[name]:.0f}" for each in loads])
        bars.set_label(name)
    axes.set_xticks(range(len(loads)), [each["load"].replace(", ", "\n") for each in loads], fontsize=8)
    axes.set_title("Texts/s: server and simulation")
    axes.set_ylim(0, 1.25 * max(max(each["measured"], each["simulated"]) for each in loads))
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="upper left")


def _draw_policies(axes: Any, told: Sequence[Mapping[str, Any]]) -> None:
    for traffic, marker in zip(dict.fromkeys(each["traffic"] for each in told), "osD", strict=True):
        for each, colour in zip((e for e in told if e["traffic"] == traffic), drawing.SERIES, strict=False):
            axes.plot(1e3 * each["p99_s"], each["texts_per_s"], marker, color=colour, markersize=8)
        last = [each for each in told if each["traffic"] == traffic][-1]
        axes.annotate(traffic, (1e3 * last["p99_s"], last["texts_per_s"]), xytext=(0, 9), textcoords="offset points",
                      fontsize=8, ha="right")  # fmt: skip
    for name, colour in zip(_POLICIES, drawing.SERIES, strict=False):
        axes.plot([], [], "o", color=colour, label=name)
    axes.set_xscale("log")
    axes.set_title("Age bound: throughput against p99")
    axes.set_xlabel("p99 [ms]")
    axes.set_ylabel("texts/s")
    axes.margins(y=0.25)
    axes.legend(title="age bound", frameon=False, fontsize=8, title_fontsize=8, loc="lower right")


def _draw_growth(axes: Any, told: Sequence[Mapping[str, Any]]) -> None:
    served = [each for each in told if each["host_s"]]
    free = [each for each in told if not each["host_s"]]
    counts = [each["replicas"] for each in served]
    host_s = served[0]["host_s"]
    axes.plot(counts, [each["texts_per_s"] for each in free], "--", color=drawing.GREY, label="texts/s, host costs 0")
    axes.plot(counts, [each["texts_per_s"] for each in served], "o-", color=drawing.BLUE,
              label=f"texts/s, host costs {1e6 * host_s:.0f} µs a request")  # fmt: skip
    axes.axhline(1 / host_s, color=drawing.RED, linestyle=":", label=f"one server process: {1 / host_s:.0f} requests/s")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, counts)
    axes.set_xlabel(f"replicas, {_CLIENTS_PER_REPLICA} clients each")
    axes.set_title("Growth with replicas")
    other = axes.twinx()
    other.plot(counts, [1e3 * each["p99_s"] for each in served], "s-", color=drawing.AMBER, label="p99 [ms]")
    other.plot(counts, [1e3 * each["p99_s"] for each in free], "s--", color=drawing.AMBER, alpha=0.4,
               label="p99 [ms], host costs 0")  # fmt: skip
    other.set_ylim(0, None)
    handles = [*axes.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    axes.legend(handles, [handle.get_label() for handle in handles], frameon=False, fontsize=8, loc="upper left")
    axes.set_ylim(None, 30 * max(each["texts_per_s"] for each in free))


def base_scenario(model: LoadedModel, texts: Sequence[str], max_age_s: float) -> Scenario:
    """What does not depend on a load."""
    lengths = [len(entry.ids) for entry in model.tokenizer.tokenizer.encode(list(texts), True)]
    plan = model.served.plan
    replicas = [SimulatedReplica({}, plan.concurrency) for _ in model.served.replicas]
    return Scenario(replicas, plan.grid, ClosedLoop(1), lengths, max_age_s=max_age_s, hand_over_s=_HAND_OVER_S)


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of each load")
    parser.add_argument("--count", type=int, default=2000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = load.write_texts(common.out / "simulation.txt", arguments.count, common.texts_from)
    config = server_config(common.bundle, common.flags)
    base = base_scenario(load_models(config, lambda record: None)[0], texts, config.max_age_s)
    with Server(common.bundle, common.flags, common.out / "simulation.log") as server:
        loads, scenarios = zip(
            *(measure(server, shape, common, base, arguments.duration) for shape in _LOADS), strict=True
        )
        capacity = loads[-1]["measured"]
        rate = load.Shape(rate=_OPEN_SHARE * capacity)
        opened, _ = measure(server, rate, common, base, arguments.duration)
        said = server.said()
    say("policies and replicas, simulated")
    figures = {
        "loads": [*loads, opened],
        "policies": policies(scenarios[0], capacity),
        "growth": growth(scenarios[0]),
    }
    inputs = {**common.inputs, "server_says": said, "count": arguments.count, "duration_s": arguments.duration}
    return report(common.out, "simulation", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
