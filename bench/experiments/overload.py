"""Overload: several times the capacity in an open loop. Everybody gets an answer, and when it ends, it is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options
from experiments.lab.probe import Probe, Seen, seconds_until_normal
from experiments.lab.processes import MemorySampler
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_least, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLOSED = load.Shape(64, 1)
_FLAT = 1.02
_NORMAL_S = 2.0
_GOODPUT = 0.85
# The client sees an answer later than the server sent it: the way there and back, and its own turn on shared cores.
_CLIENT_SLACK_S = 0.1
_AFTER_S = 5.0
_MIB = 1024 * 1024


def memory_growth(samples: Sequence[tuple[float, int]], duration_s: float) -> float | None:
    """Median memory of the last quarter of the overload / that of its second quarter; None with too few samples.

    samples: (seconds since the overload began, bytes)
    """
    quarters: list[list[int]] = [[], [], [], []]
    for at_s, size in samples:
        if 0 <= at_s < duration_s:
            quarters[int(4 * at_s / duration_s)].append(size)
    middle = [sorted(quarter)[len(quarter) // 2] if quarter else 0 for quarter in quarters]
    return middle[3] / middle[1] if middle[1] and middle[3] else None


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets."""
    results = figures["overload"]["results"]
    service = results["service_s"]
    late = None if service is None else service["max"] - figures["deadline_s"]
    return [
        at_most("requests answered neither 200 nor 429", results["failed"] + results["unfinished"], 0),
        at_most("refusals without Retry-After", results["refused_without_retry_after"], 0),
        at_most("slowest accepted answer past its deadline, seen by the client", late, _CLIENT_SLACK_S, "s"),
        at_least("goodput / capacity", figures["goodput"] / figures["capacity"], _GOODPUT),
        at_most("memory late / early in the overload", figures["memory_growth"], _FLAT),
        at_most("normal service after", figures["normal_after_s"], _NORMAL_S, "s"),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Answers and refusals per second, what a lone polite client sees meanwhile and after, and memory."""
    figure, (left, middle, right) = drawing.canvas(f"{figures['factor']:g} times the capacity, in an open loop", 3)
    _rates(left, figures)
    _probe(middle, figures)
    samples = figures["memory"]
    used = [each["bytes"] / _MIB for each in samples]
    right.plot([each["at_s"] for each in samples], used, color=drawing.BLUE, linewidth=2)
    right.set_ylim(0, 1.2 * max(used))
    right.set_title("Memory of the whole server (PSS) [MiB]")
    for axes in (middle, right):
        axes.axvspan(0, figures["duration_s"], color=drawing.AMBER, alpha=0.12, label="overload")
    for axes in (left, middle, right):
        axes.set_xlabel("time since the overload began [s]")
        axes.legend(loc="best", fontsize=8)
    return figure


def _rates(axes: Axes, figures: Mapping[str, Any]) -> None:
    series = [each for each in figures["overload"]["results"]["per_second"] if each["seconds"] > 0.9]
    seconds = [each["second"] + 0.5 for each in series]
    axes.plot(seconds, [each["refused"] for each in series], color=drawing.AMBER, label="refused (429)")
    axes.plot(seconds, [each["replies"] for each in series], color=drawing.GREEN, linewidth=2, label="answered (200)")
    axes.plot(seconds, [each["errors"] for each in series], color=drawing.RED, label="errors")
    capacity = figures["capacity"]
    axes.axhline(capacity, color=drawing.GREY, linestyle="--", label=f"capacity, {capacity:.0f}/s")
    axes.set_title(f"{figures['rate']:.0f} requests offered per second")
    axes.set_ylabel("per second")
    axes.set_ylim(bottom=0)


def _probe(axes: Axes, figures: Mapping[str, Any]) -> None:
    kinds = {"answered (200)": drawing.GREEN, "refused (429)": drawing.AMBER, "other": drawing.RED}
    for (name, colour), statuses in zip(kinds.items(), ({200}, {429}, None), strict=True):
        chosen = [each for each in figures["probe"] if _is_kind(each["status"], statuses)]
        if chosen:
            at, seconds = [each["at"] for each in chosen], [1e3 * each["seconds"] for each in chosen]
            axes.plot(at, seconds, "o", markersize=3, color=colour, label=name)
    axes.axhline(1e3 * figures["calm_p50_s"], color=drawing.GREY, linestyle="--", label="usual median")
    axes.set_yscale("log")
    after = figures["normal_after_s"]
    axes.set_title("A lone client [ms]; " + ("never normal" if after is None else f"normal {after:.1f} s after"))


def _is_kind(status: int, statuses: set[int] | None) -> bool:
    return status not in {200, 429} if statuses is None else status in statuses


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of overload")
    parser.add_argument("--capacity-duration", type=float, default=3.0, help="seconds for measuring the capacity")
    parser.add_argument("--factor", type=float, default=5.0, help="times the capacity")
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds that each request gives the server")
    parser.add_argument("--max-connections", type=int, default=4096, help="that the generator holds open, at most")
    parser.add_argument("--count", type=int, default=3000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "overload.txt"
    load.write_texts(texts, arguments.count, common.texts_from)
    bounded = ("--max-connections", str(arguments.max_connections), "--request-timeout", f"{arguments.deadline:g}")
    with Server(common.bundle, common.flags, common.out / "overload.log") as server:
        say("capacity")
        closed = load.run(server.url, _CLOSED, texts, arguments.capacity_duration)
        capacity = closed["results"]["throughput_requests_per_s"]
        calm_p50_s = load.run(server.url, load.Shape(32, 1), texts, 2.0, 0.5)["results"]["latency_s"]["p50"]
        shape = load.Shape(rate=arguments.factor * capacity)
        say(shape.name)
        with MemorySampler(server.pids, 0.5) as sampler, Probe(server.port, common.model, texts) as probe:
            cpu = server.cpu()
            result = load.run(server.url, shape, texts, arguments.duration, 0.0, *bounded)
            spent = server.cpu() - cpu
            time.sleep(_AFTER_S)
        said = server.said()
    window = result["results"]["window_monotonic_s"]
    memory = [(sampler.began + each.at_s - window[0], each.total_bytes) for each in sampler.samples]
    figures = {
        "capacity": capacity,
        "calm_p50_s": calm_p50_s,
        "factor": arguments.factor,
        "rate": shape.rate,
        "deadline_s": arguments.deadline,
        "duration_s": arguments.duration,
        "goodput": result["results"]["throughput_requests_per_s"],
        "normal_after_s": seconds_until_normal(probe.seen, window[1], calm_p50_s),
        "probe": [asdict(each) | {"at": each.at - window[0]} for each in sorted(probe.seen, key=_instant)],
        "memory_growth": memory_growth(memory, arguments.duration),
        "memory": [{"at_s": at_s, "bytes": size} for at_s, size in memory],
        "cpu_s": {"server": spent.server_s, "workers": spent.workers_s, "generator": result["generator"]["cpu_s"]},
        "overload": result,
    }
    print(_costs(figures))
    inputs = {**common.inputs, "server_says": said, "count": arguments.count}
    return report(common.out, "overload", inputs, figures, verdicts(figures), lambda: draw(figures))


def _instant(seen: Seen) -> float:
    return seen.at


def _costs(figures: Mapping[str, Any]) -> str:
    cpu, generator = figures["cpu_s"], figures["overload"]["generator"]
    late_ms = 1e3 * generator["send_lag_s"]["mean"]
    return (
        f"CPU: server {cpu['server']:.1f} s, workers {cpu['workers']:.1f} s, generator {cpu['generator']:.1f} s "
        f"({generator['cpu_us_per_request']:.0f} µs a request), sent {late_ms:.1f} ms late on average, "
        f"{generator['connections_opened']} connections"
    )


if __name__ == "__main__":
    sys.exit(main())
