"""Tasks and models at once against the same work done separately, on one server.

The work is a fixed number of requests of each task of each model. Separately: one task after the other, each over so
many connections. Mixed: all requests shuffled, over the connections of all tasks together, since each one's clients
stay when others come. Squeezed: the same over no more connections than a single task had, so that the queue of each
model is shorter than it was alone, and its batches smaller: that has no target. All ways in each round, in turns of
who goes first.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from experiments.lab import drawing, fixed_work, load, markdown, options
from experiments.lab.mixed_runs import Run, calibrate, run_mixed, run_separately
from experiments.lab.models import names_of, write_models_file
from experiments.lab.server import Server
from experiments.lab.task_requests import Part, parts_of
from experiments.lab.verdicts import Verdict, at_least, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = 0.9
_SEPARATELY, _MIXED, _SQUEEZED = _WAYS = ("separately", "mixed", "squeezed")
_COLOURS = dict(zip(_WAYS, (drawing.GREY, drawing.BLUE, drawing.GREEN), strict=True))


def summary(parts: Sequence[Part], rounds: Sequence[Mapping[str, Run]]) -> dict[str, Any]:
    """The figures of all rounds; percentiles are of the requests of all rounds together."""
    return {
        "ratios": {
            way: asdict(markdown.spread_of([each[_SEPARATELY].seconds / each[way].seconds for each in rounds]))
            for way in (_MIXED, _SQUEEZED)
        },
        "rounds": [
            {
                way: {
                    "seconds": run.seconds,
                    "cpu_s": _cpu(run),
                    "errors": _errors(run),
                    "ratio": each[_SEPARATELY].seconds / run.seconds,
                }
                for way, run in each.items()
            }
            for each in rounds
        ],
        "errors": sum(_errors(run) for each in rounds for run in each.values()),
        "all": {way: _rates([run.done for run in _of(rounds, way)], _of(rounds, way)) for way in _WAYS},
        "parts": [
            {
                "model": part.model,
                "task": part.task,
                "requests": len(rounds[0][_MIXED].done[index].codes),
                **{
                    way: _rates(
                        [[run.done[index]] for run in _of(rounds, way)], [run.done[index] for run in _of(rounds, way)]
                    )
                    for way in _WAYS
                },
            }
            for index, part in enumerate(parts)
        ],
    }


def _of(rounds: Sequence[Mapping[str, Run]], way: str) -> list[Run]:
    return [each[way] for each in rounds]


def _cpu(run: Run) -> dict[str, float]:
    return {"server": run.server_s, "workers": run.workers_s, "generator": run.generator_s}


def _errors(run: Run) -> int:
    return sum(done.errors for done in run.done)


def _rates(groups: Sequence[Sequence[fixed_work.Done]], timed: Sequence[Run | fixed_work.Done]) -> dict[str, Any]:
    """Medians of the rounds. groups: by round, what was done; timed: by round, what has the seconds of it."""
    latencies = np.concatenate([done.latency_s[done.codes == 200] for group in groups for done in group])
    p50, p99 = np.percentile(latencies, (50, 99)).tolist() if latencies.size else (None, None)
    counts = [sum(len(done.codes) - done.errors for done in group) for group in groups]
    tokens = [sum(int(done.tokens.sum()) for done in group) for group in groups]
    seconds = [each.seconds for each in timed]
    return {
        "seconds": statistics.median(seconds),
        "requests_per_s": statistics.median(count / took for count, took in zip(counts, seconds, strict=True)),
        "tokens_per_s": statistics.median(count / took for count, took in zip(tokens, seconds, strict=True)),
        "p50_s": p50,
        "p99_s": p99,
    }


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets."""
    return [
        at_least("time separately / time mixed (median of the rounds)", figures["ratios"][_MIXED]["median"], _SHARE),
        at_most("requests that got no 200", figures["errors"], 0),
    ]


def tables(figures: Mapping[str, Any]) -> list[str | markdown.Table]:
    """As Markdown shows them."""
    rows = []
    for part in [*figures["parts"], {"model": "all", "task": "", "requests": "", **figures["all"]}]:
        for way in _WAYS:
            told = part[way]
            name = f"{part['model']}: {part['task']}".rstrip(": ")
            # A mixed task has no time of its own.
            has_time = way == _SEPARATELY or not part["task"]
            rates = [f"{told[key]:.0f}" for key in ("requests_per_s", "tokens_per_s")]
            speed = [f"{told['seconds']:.2f}", *rates] if has_time else ["", "", ""]
            latency = [markdown.milliseconds(told[key]) for key in ("p50_s", "p99_s")]
            rows.append([name, str(part["requests"]), way, *speed, *latency])
    cpu = []
    for number, each in enumerate(figures["rounds"], 1):
        for way in _WAYS:
            told = each[way]
            shares = [f"{told['cpu_s'][name]:.2f}" for name in ("server", "workers", "generator")]
            cpu.append([str(number), way, f"{told['seconds']:.2f}", *shares, f"{told['ratio']:.3f}"])
    ratios = [f"time separately / time {way}: {markdown.Spread(**told)}" for way, told in figures["ratios"].items()]
    return [
        f"{'; '.join(ratios).capitalize()}: median and range of {len(figures['rounds'])} rounds. "
        f"{figures['errors']} errors.",
        markdown.Table(("work", "requests", "done", "seconds", "requests/s", "tokens/s", "p50 [ms]", "p99 [ms]"), rows),
        markdown.Table(
            ("round", "done", "seconds", "CPU server [s]", "workers [s]", "generator [s]", "separately / this"), cpu
        ),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Left: seconds of each round. Right: p99 of each part. All ways."""
    share = figures["ratios"][_MIXED]["median"]
    title = f"Mixed tasks and models: {share:.2f} of the throughput of the same work done separately"
    figure, (left, right) = drawing.canvas(title, 2)
    numbers = np.arange(len(figures["rounds"]))
    offsets = dict(zip(_WAYS, (-0.27, 0.0, 0.27), strict=True))
    for way, offset in offsets.items():
        heights = [each[way]["seconds"] for each in figures["rounds"]]
        left.bar(numbers + offset, heights, 0.26, color=_COLOURS[way], label=way)
    most = max(each[way]["seconds"] for each in figures["rounds"] for way in _WAYS)
    for number, each in enumerate(figures["rounds"]):
        for way in (_MIXED, _SQUEEZED):
            place = (number + offsets[way], each[way]["seconds"] + 0.01 * most)
            left.annotate(f"{each[way]['ratio']:.2f}", place, ha="center", fontsize=7)
    left.set_ylim(0, 1.3 * most)
    left.set_xticks(numbers, [str(number + 1) for number in numbers])
    left.set_xlabel("round")
    left.set_title("Seconds of the same work; above: separately / this")
    left.legend(loc="upper left", frameon=False, ncols=3)
    names = [f"{part['model']}\n{part['task']}" for part in figures["parts"]]
    places = np.arange(len(names))
    for way, offset in offsets.items():
        p99s = [1e3 * (part[way]["p99_s"] or 0) for part in figures["parts"]]
        right.barh(places + offset, p99s, 0.26, color=_COLOURS[way])
        p50s = [1e3 * (part[way]["p50_s"] or 0) for part in figures["parts"]]
        label = "median" if way == _SEPARATELY else None
        right.plot(p50s, places + offset, "|", color="black", markersize=7, label=label)
    right.set_yticks(places, names, fontsize=7)
    right.invert_yaxis()
    right.set_title("p99 of each task [ms]; mixed has the connections of all")
    right.legend(loc="lower right", frameon=False)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("others", type=Path, nargs="*", help="more bundles to serve")
    parser.add_argument("--tasks", default="", help="names of GET /tasks with commas between; all without it")
    parser.add_argument("--first-tasks", action="store_true", help="of each bundle only the first of its tasks")
    parser.add_argument("--connections", type=int, default=32, help="of each task")
    parser.add_argument("--seconds", type=float, default=1.5, help="of work of each task, by itself")
    parser.add_argument("--rounds", type=int, default=2, help="times that the work is done, all ways")
    parser.add_argument("--count", type=int, default=3000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    bundles = names_of([common.bundle, *arguments.others])
    texts = load.write_texts(common.out / "mixed.txt", arguments.count, common.texts_from)
    flags = write_models_file(common.out / "mixed.toml", bundles, {})
    tasks = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    rounds: list[dict[str, Run]] = []
    with Server(None, [*flags, *common.flags], common.out / "mixed.log") as server:
        parts = parts_of(server, bundles, tasks, not arguments.first_tasks)
        works = calibrate(server, parts, texts, arguments.connections, arguments.seconds)
        for number in range(arguments.rounds):
            found = {}
            for way in (*_WAYS[number % 3 :], *_WAYS[: number % 3]):
                say(f"round {number + 1}, {way}")
                connections = arguments.connections * (len(works) if way == _MIXED else 1)
                if way == _SEPARATELY:
                    found[way] = run_separately(server, works, connections, number)
                else:
                    found[way] = run_mixed(server, works, connections, number)
            rounds.append(found)
        said = server.said()
    figures = summary(parts, rounds)
    inputs = {**common.inputs, "bundle": ", ".join(bundles), "server_says": said, "count": arguments.count}
    inputs |= {"connections": arguments.connections, "seconds": arguments.seconds, "rounds": arguments.rounds}
    judged = verdicts(figures)
    title = "Mixed tasks and models against the same work done separately"
    markdown.write(common.out / "mixed.md", title, inputs, tables(figures), judged)
    return report(common.out, "mixed", inputs, figures, judged, lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
