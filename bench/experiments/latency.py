"""Latency: of a lone client against tokenization and the bare run, and of random arrivals at 70 % of capacity.

Each round measures the bare run in a process of its own, then one connection. Then the capacity is measured in a closed
loop, and Poisson arrivals at a share of it follow.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.lab.config import server_config  # first: it sets what numpy reads when it is imported

from experiments.lab import drawing, load, options  # isort: skip
from experiments.lab.aside import run_module
from experiments.lab.recorder import Recorder
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_most, report, say
from experiments.simulation import base_scenario

from ridgeline_server.engine.loading import load_models
from ridgeline_server.tuning.simulation import OpenLoop, SimulatedReplica, simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = 0.7
_CLOSED = load.Shape(64, 1)
_ONE_MS = 1e-3
_LEAST_SIMULATED_S = 60.0


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets; seconds inside, milliseconds as shown."""
    alone, loaded = figures["alone"], figures["open_loop"]
    ratio = loaded["p99_s"] / loaded["p50_s"]
    return [
        at_most("p50 of one connection - (tokenize + bare run)", 1e3 * alone["host_s"], 1e3 * _ONE_MS, "ms"),
        at_most(f"p99 / p50 at {_SHARE:.0%} of capacity", ratio, 6.0),
        at_most(
            f"p99 / the ideal simulation's at {_SHARE:.0%} of capacity", loaded["p99_s"] / loaded["ideal_p99_s"], 1.3
        ),
    ]


def ideal_p99_s(
    common: options.Common, texts: Sequence[str], recorder: Recorder, shape: load.Shape, duration_s: float
) -> float:
    """The p99 of the same arrivals on an ideal server: the recorded batch times, and a host that costs nothing."""
    assert shape.rate is not None
    config = server_config(common.bundle, common.flags)
    (model,) = load_models(config, lambda record: None)
    base = base_scenario(model, texts, config.max_age_s)
    model.tokenizer.stop()
    batch_s = recorder.batch_s(base.grid)
    ideal = replace(
        base,
        replicas=[SimulatedReplica(batch_s, each.concurrency) for each in base.replicas],
        traffic=OpenLoop(shape.rate),
        host_s=0.0,
        hand_over_s=0.0,
        duration_s=max(duration_s, _LEAST_SIMULATED_S),
    )
    return simulate(ideal).percentile_s(99)


def draw(figures: Mapping[str, Any]) -> Figure:
    """Left: where a lone request's time goes. Right: latency by percentile at the open loop's rate."""
    figure, (left, right) = drawing.canvas("Latency of single texts", 2)
    alone, loaded = figures["alone"], figures["open_loop"]
    parts = {"tokenize": alone["tokenize_s"], "bare run": alone["run_s"]}
    bottom = 0.0
    for (name, seconds), colour in zip(parts.items(), (drawing.AMBER, drawing.GREEN), strict=True):
        left.bar([0], [1e3 * seconds], 0.5, bottom=bottom, color=colour, label=f"{name}, {1e3 * seconds:.2f} ms")
        bottom += 1e3 * seconds
    left.bar([1], [1e3 * alone["p50_s"]], 0.5, color=drawing.BLUE, label=f"served, {1e3 * alone['p50_s']:.2f} ms")
    limit = 1e3 * (alone["bare_s"] + _ONE_MS)
    left.axhline(limit, color=drawing.RED, linestyle="--", linewidth=1.4, label=f"target: + 1 ms, {limit:.2f} ms")
    left.set_xticks([0, 1], ["offline", "over HTTP, 1 connection"])
    left.set_title("One client: median [ms]")
    left.set_ylim(0, 1.5 * max(limit, 1e3 * alone["p50_s"]))
    left.legend(loc="upper left", frameon=False, fontsize=9)
    names = ("p50", "p90", "p95", "p99", "p999")
    values = [1e3 * loaded["latency_s"][name] for name in names]
    bars = right.bar(range(len(names)), values, 0.6, color=drawing.BLUE)
    drawing.label_bars(right, bars, [f"{value:.0f}" for value in values])
    right.axhline(6 * values[0], color=drawing.RED, linestyle="--", linewidth=1.4, label="target for p99: 6 x p50")
    limit = 1.3e3 * loaded["ideal_p99_s"]
    right.plot([2.6, 3.4], [limit, limit], color=drawing.AMBER, linewidth=2, label="target for p99: 1.3 x ideal")
    right.set_xticks(range(len(names)), ["p50", "p90", "p95", "p99", "p99.9"])
    right.set_ylim(0, 1.25 * max(*values, 6 * values[0]))
    right.set_title(f"{loaded['rate']:.0f} random arrivals/s, {_SHARE:.0%} of {loaded['capacity']:.0f}/s [ms]")
    right.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=1, help="times that one connection and the bare run are measured")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of each load")
    parser.add_argument("--open-duration", type=float, default=5.0, help="seconds of random arrivals")
    parser.add_argument("--count", type=int, default=600, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "latency.txt"
    written = load.write_texts(texts, arguments.count, common.texts_from)
    bare, alone = [], []
    with Server(common.bundle, common.flags, common.out / "latency.log") as server:
        for _ in range(arguments.rounds):
            say("tokenization and bare runs")
            bare.append(run_module("experiments.lab.offline", "bare", common.bundle, texts, *common.flags))
            say("one connection")
            alone.append(load.run(server.url, load.Shape(1, 1), texts, arguments.duration))
        say("capacity")
        closed = load.run(server.url, _CLOSED, texts, arguments.duration)
        capacity = closed["results"]["throughput_requests_per_s"]
        shape = load.Shape(rate=_SHARE * capacity)
        say(shape.name)
        with Recorder(server) as recorder:
            loaded = load.run(server.url, shape, texts, arguments.open_duration, 2.0)
        said = server.said()
    p50s = [each["results"]["latency_s"]["p50"] for each in alone]
    bares = [each["both_p50_s"] for each in bare]
    latency = loaded["results"]["latency_s"]
    figures = {
        "alone": {
            "p50_s": statistics.median(p50s),
            "bare_s": statistics.median(bares),
            "tokenize_s": statistics.median(each["tokenize_p50_s"] for each in bare),
            "run_s": statistics.median(each["run_p50_s"] for each in bare),
            "host_s": statistics.median(p50 - both for p50, both in zip(p50s, bares, strict=True)),
        },
        "open_loop": {
            "capacity": capacity,
            "rate": shape.rate,
            "p50_s": latency["p50"],
            "p99_s": latency["p99"],
            "latency_s": latency,
            "ideal_p99_s": ideal_p99_s(common, written, recorder, shape, arguments.open_duration),
        },
        "runs": {"bare": bare, "one connection": alone, "closed": closed, "open": loaded},
    }
    inputs = {**common.inputs, "server_says": said, "count": arguments.count, "rounds": arguments.rounds}
    inputs |= {"duration_s": arguments.duration, "open_duration_s": arguments.open_duration}
    return report(common.out, "latency", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
