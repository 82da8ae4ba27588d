"""A flood on one model, and what requests for another one feel of it: with cores of its own, and without.

Each round measures the steady model at a gentle rate of random arrivals, alone; then beside floods on the other model
from connections that send the next request as soon as the last one is answered, or `--pause` seconds after a refusal
(429). Then the same on a second server, where no model has cores of its own. The server's own process and the load run
on whatever cores the system puts them, those of the models too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, markdown, options
from experiments.lab.flood import Loads
from experiments.lab.models import names_of, write_models_file
from experiments.lab.server import Server
from experiments.lab.task_requests import Part, parts_of
from experiments.lab.verdicts import Verdict, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TWICE = 2.0
_OWN, _SHARED = "own cores", "shared cores"


def summary(rounds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Of each kind of cores and each flood: the steady model's p99 beside it / alone on the same server, by round.

    rounds: what `measure` found, with its "cores"; the first of each kind is the one without a flood
    """
    found = []
    for index, each in enumerate(rounds[0]):
        if not each["connections"]:
            continue
        alone = next(place for place, other in enumerate(rounds[0]) if other["cores"] == each["cores"])
        pairs = [(measured[index]["steady"], measured[alone]["steady"]) for measured in rounds]
        known = [(beside["latency_s"], lone["latency_s"]) for beside, lone in pairs]
        ratios = {
            name: asdict(markdown.spread_of([beside[name] / lone[name] for beside, lone in known]))
            if all(beside and lone for beside, lone in known)
            else None
            for name in ("p50", "p99")
        }
        found.append({"cores": each["cores"], "connections": each["connections"], **ratios})
    return found


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets: those of the models with cores of their own."""
    judged = [
        at_most(
            f"p99 beside {each['connections']} flooding connections / alone, own cores (median of the rounds)",
            None if each["p99"] is None else each["p99"]["median"],
            _TWICE,
        )
        for each in figures["ratios"]
        if each["cores"] == _OWN
    ]
    own = [each for measured in figures["rounds"] for each in measured if each["cores"] == _OWN]
    lost = sum(each["steady"]["failed"] + each["steady"]["refused"] for each in own)
    failed = sum(each["flood"]["failed"] for each in own if each["flood"])
    return [
        *judged,
        at_most("steady model's requests that were not answered 200", lost, 0),
        at_most("the flood's requests that were answered neither 200 nor 429", failed, 0),
    ]


def tables(figures: Mapping[str, Any]) -> list[str | markdown.Table]:
    """As Markdown shows them."""
    ratios = [
        [each["cores"], str(each["connections"])]
        + ["–" if each[name] is None else str(markdown.Spread(**each[name])) for name in ("p50", "p99")]
        for each in figures["ratios"]
    ]
    rows = []
    for number, measured in enumerate(figures["rounds"], 1):
        for each in measured:
            latency = each["steady"]["latency_s"] or {}
            flood = each["flood"]
            rows.append(
                [
                    str(number),
                    each["cores"],
                    str(each["connections"]),
                    *(markdown.milliseconds(latency.get(name)) for name in ("p50", "p99", "max")),
                    str(each["steady"]["failed"] + each["steady"]["refused"]),
                    "–" if flood is None else f"{flood['throughput_requests_per_s']:.0f}",
                    "–" if flood is None else str(flood["refused"]),
                    *(f"{each['cpu_s'][name]:.1f}" for name in ("server", "workers", "generators")),
                ]
            )
    header = ("round", "models on", "flood connections", "p50 [ms]", "p99 [ms]", "slowest [ms]", "not answered",
              "flood answered/s", "flood refused", "CPU server [s]", "workers [s]", "generators [s]")  # fmt: skip
    return [
        f"{figures['steady']} at {figures['rate']:.0f} random requests/s, beside a flood on {figures['flooded']}.",
        markdown.Table(("models on", "flood connections", "p50 beside / alone", "p99 beside / alone"), ratios),
        markdown.Table(header, rows),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """The steady model's p50 and p99 beside each flood, every round a point, and the medians of their ratios."""
    figure, (left, right) = drawing.canvas(f"{figures['steady']} beside a flood on {figures['flooded']}", 2)
    measured = figures["rounds"][0]
    names = [f"{each['cores']}\n{_flood(each['connections'])}" for each in measured]
    for quantile, colour in (("p50", drawing.GREEN), ("p99", drawing.BLUE)):
        for number, each in enumerate(figures["rounds"]):
            points = [(place, one["steady"]["latency_s"]) for place, one in enumerate(each)]
            known = [(place, 1e3 * latency[quantile]) for place, latency in points if latency]
            label = None if number else quantile
            left.plot(*zip(*known, strict=True), "o", color=colour, alpha=0.7, label=label)
    left.set_xticks(range(len(names)), names, fontsize=8)
    drawing.plain_log(left)
    left.set_title(f"{figures['rate']:.0f} requests/s, latency in each round [ms]")
    left.legend(loc="best", frameon=False)
    known_ratios = [each for each in figures["ratios"] if each["p99"]]
    heights = [each["p99"]["median"] for each in known_ratios]
    reach = [
        [height - each["p99"]["least"] for height, each in zip(heights, known_ratios, strict=True)],
        [each["p99"]["greatest"] - height for height, each in zip(heights, known_ratios, strict=True)],
    ]
    colours = [drawing.BLUE if each["cores"] == _OWN else drawing.GREY for each in known_ratios]
    bars = right.bar(range(len(heights)), heights, 0.6, color=colours, yerr=reach, capsize=4)
    drawing.label_bars(right, bars, [f"{height:.2f}" for height in heights])
    names = [f"{each['cores']}\n{_flood(each['connections'])}" for each in known_ratios]
    right.set_xticks(range(len(names)), names, fontsize=8)
    drawing.plain_log(right)
    right.set_ylim(0.5, 2 * max(_TWICE, *(each["p99"]["greatest"] for each in known_ratios), 1.0))
    drawing.target_line(right, _TWICE, "target: 2")
    right.set_title("p99 beside the flood / alone; least to greatest of the rounds")
    return figure


def _flood(connections: int) -> str:
    return f"{connections} connections" if connections else "alone"


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("flooded", type=Path, help="bundle of the flooded model; the first one is the steady model's")
    parser.add_argument("--cores", default="0", help="CPUs of the steady model, such as 0-3")
    parser.add_argument("--flooded-cores", default="1", help="CPUs of the flooded model")
    parser.add_argument("--task", default="", help="of the steady model; its first of GET /tasks without it")
    parser.add_argument("--flooded-task", default="", help="of the flooded model")
    parser.add_argument("--connections", type=options.numbers, default=[64], help="of the floods, with commas between")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a flooding connection waits after a 429")
    parser.add_argument("--share", type=float, default=0.3, help="rate of the steady model / what it answers at most")
    parser.add_argument("--rate", type=float, help="requests per second of the steady model, instead of --share")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="times that all of it is measured")
    parser.add_argument("--no-shared", action="store_true", help="leave the server without cores of its own models out")
    parser.add_argument("--count", type=int, default=3000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    bundles = names_of([common.bundle, arguments.flooded])
    names = list(bundles)
    texts = load.write_texts(common.out / "isolation.txt", arguments.count, common.texts_from)
    own = {names[0]: {"cores": arguments.cores}, names[1]: {"cores": arguments.flooded_cores}}
    servers = {_OWN: own} if arguments.no_shared else {_OWN: own, _SHARED: {}}
    rounds: list[list[dict[str, Any]]] = [[] for _ in range(arguments.rounds)]
    rate, said = arguments.rate, {}
    for cores, settings in servers.items():
        stem = common.out / f"isolation_{cores.replace(' ', '_')}"
        flags = write_models_file(stem.with_suffix(".toml"), bundles, settings)
        with Server(None, [*flags, *common.flags], stem.with_suffix(".log")) as server:
            steady, flooded = _parts(server, bundles, (arguments.task, arguments.flooded_task))
            loads = Loads(steady, flooded, texts, min(2.0, arguments.duration / 2), arguments.duration, arguments.pause)
            if rate is None:
                say("what the steady model answers at most")
                rate = arguments.share * loads.capacity(server)
            for number, measured in enumerate(rounds):
                for connections in (0, *arguments.connections):
                    say(f"{cores}, round {number + 1}, {_flood(connections)}")
                    measured.append({"cores": cores, **loads.measure(server, rate, connections, number)})
            said[cores] = server.said()
    figures = {
        "steady": steady.name,
        "flooded": flooded.name,
        "rate": rate,
        "share": arguments.share,
        "ratios": summary(rounds),
        "rounds": rounds,
    }
    inputs = {**common.inputs, "bundle": ", ".join(names), "server_says": said, "rounds": arguments.rounds}
    inputs |= {"cores": arguments.cores, "flooded_cores": arguments.flooded_cores, "duration_s": arguments.duration}
    inputs |= {"pause_s": arguments.pause, "share": arguments.share}
    judged = verdicts(figures)
    markdown.write(common.out / "isolation.md", "A flood on another model", inputs, tables(figures), judged)
    return report(common.out, "isolation", inputs, figures, judged, lambda: draw(figures))


def _parts(server: Server, bundles: Mapping[str, Path], tasks: Sequence[str]) -> list[Part]:
    """The steady and the flooded model's task."""
    pairs = zip(bundles.items(), tasks, strict=True)
    return [parts_of(server, {name: path}, [task] if task else [], False)[0] for (name, path), task in pairs]


if __name__ == "__main__":
    sys.exit(main())
