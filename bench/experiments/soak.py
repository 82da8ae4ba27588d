"""Many requests of mixed lengths: does the memory of any process still grow once every grid shape has run?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options, processes
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROWTH = 0.02
_MIB = 1024 * 1024


def growth(points: Sequence[tuple[int, int]], settled: int) -> float | None:
    """Growth of memory from the first sample after `settled` requests to the end, as a share of the former.

    points: (requests so far, bytes), ascending. The end counts as the median of the last three samples, since one
    sample alone may hold a batch more than another. None without two samples after `settled`.
    """
    after = [size for requests, size in points if requests >= settled]
    if len(after) < 2:
        return None
    last = sorted(after[-3:])[len(after[-3:]) // 2]
    return last / after[0] - 1


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """A target per process, and that nothing failed."""
    targets = [at_most(f"growth of {name}", value, _GROWTH) for name, value in figures["growth"].items()]
    return [*targets, at_most("requests without a good answer", figures["failed"], 0)]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Memory of each process over requests, from the mark on which growth counts."""
    figure, (axes,) = drawing.canvas(f"Memory over {figures['requests']:,} requests of mixed lengths")
    thousands = [point["requests"] / 1e3 for point in figures["samples"]]
    most = 0.0
    for (name, value), colour in zip(figures["growth"].items(), drawing.SERIES, strict=False):
        sizes = [point["bytes"][name] / _MIB for point in figures["samples"]]
        text = "" if value is None else f": {value:+.1%} since the mark"
        axes.plot(thousands, sizes, color=colour, linewidth=2, label=f"{name}{text}")
        most = max(most, *sizes)
    axes.axvline(figures["settled"] / 1e3, color=drawing.GREY, linestyle=":", label="growth counts from here")
    axes.set_title(f"Resident memory that is no file's [MiB]; target: growth of at most {_GROWTH:.0%}")
    axes.set_xlabel("thousand requests")
    axes.set_ylim(0, 1.25 * most)
    axes.legend(loc="upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--requests", type=int, default=3000, help="in all; 1,000,000 at large")
    parser.add_argument("--settled", type=int, default=1000, help="requests after which growth counts")
    parser.add_argument("--part", type=float, default=2.0, help="seconds of load between two samples of memory")
    parser.add_argument("--connections", type=int, default=64, help="of the load")
    parser.add_argument("--count", type=int, default=6000, help="texts")
    parser.add_argument("--longest", type=int, default=60_000, help="characters of the longest of them")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "soak.txt"
    load.write_texts(texts, arguments.count, common.texts_from, arguments.longest)
    samples: list[dict[str, Any]] = []
    failed = requests = 0
    with Server(common.bundle, common.flags, common.out / "soak.log") as server:
        names = ["server", *(f"worker {index}" for index in range(len(server.workers())))]
        pids = server.pids()
        while requests < arguments.requests:
            result = load.run(server.url, load.Shape(arguments.connections, 1), texts, arguments.part, 0.0)["results"]
            failed += result["failed"] + result["refused"] + result["unfinished"]
            requests = server.answered()
            sizes = dict(zip(names, map(processes.anonymous_bytes, pids), strict=True))
            samples.append({"requests": requests, "bytes": {**sizes, "all": sum(sizes.values())}})
            say(f"{requests:,} requests, {samples[-1]['bytes']['all'] / _MIB:,.0f} MiB")
        said = server.said()
    figures = {
        "requests": requests,
        "failed": failed,
        "settled": arguments.settled,
        "samples": samples,
        "growth": {
            name: growth([(each["requests"], each["bytes"][name]) for each in samples], arguments.settled)
            for name in [*names, "all"]
        },
    }
    inputs = {**common.inputs, "server_says": said, "count": arguments.count, "longest": arguments.longest}
    inputs |= {"part_s": arguments.part, "connections": arguments.connections}
    return report(common.out, "soak", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
