"""What open dashboards cost the server's process, idle and under load, and what recording for them costs a request."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options
from experiments.lab.dashboards import Dashboards
from experiments.lab.server import Server
from experiments.lab.timing import seconds_per_call
from experiments.lab.verdicts import Verdict, at_most, report, say

from ridgeline_server.report.history import History
from ridgeline_server.request import BatchRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEW = 5
_FEW_SHARE = 0.02
_RECORD_US = 5.0
_POLL_KIB = 30.0
# A page loads its files first; what it costs while it is open is measured after that.
_SETTLE_S = 3.0


def per_dashboard(shares: Mapping[int, float]) -> float:
    """Share of a core that one more dashboard takes: the slope of the least squares line through the counts."""
    return statistics.linear_regression(list(shares), list(shares.values())).slope


def medians(rounds: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The median share of a core over the rounds, by the number of dashboards."""
    return {count: statistics.median(each[count] for each in rounds) for count in rounds[0]}


def record_us() -> dict[str, float]:
    """Microseconds of recording one request, and one batch."""
    history = History()
    record = BatchRecord(
        model="m", variant="int8", runtime="openvino", precision="int8", replica=0, rows=8, shape=(8, 32),
        real_tokens=200, padded_tokens=256, flops=1e9, executed_flops=1.2e9, started=1.0, finished=1.01,
        peak_flops_per_s=1e12, share=0.5, predicted_s=0.009, bound="compute",
    )  # fmt: skip
    steps = (1e-4, 2e-4, 3e-3, 1e-2, 1e-4)
    calls = {
        "request": lambda: history.record_request(time.monotonic(), 200, 0.0134, steps),
        "batch": lambda: history.record_batch(record),
    }
    return {name: 1e6 * seconds_per_call(call) for name, call in calls.items()}


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets."""
    loaded = per_dashboard(figures["loaded"])
    idle = per_dashboard(figures["idle"])
    return [
        at_most(f"{_FEW} dashboards under load, of a core", 100 * _FEW * loaded, 100 * _FEW_SHARE, "%"),
        at_most(f"{_FEW} dashboards on an idle server, of a core", 100 * _FEW * idle, 100 * _FEW_SHARE, "%"),
        at_most("recording a request", figures["record_us"]["request"], _RECORD_US, "µs"),
        at_most("an answer to a dashboard that is open (median)", figures["poll_bytes"] / 1024, _POLL_KIB, "KiB"),
        at_most("dashboards that failed", figures["failed"], 0),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """The server process' share of a core against the number of dashboards."""
    figure, axes = drawing.canvas("What open dashboards cost the server's process", 2)
    kinds = {"idle": "idle server", "loaded": f"server under load, {figures['rate']:g} requests/s"}
    for place, (kind, title) in zip(axes, kinds.items(), strict=True):
        shares = figures[kind]
        place.plot(list(shares), [100 * share for share in shares.values()], "o-", color=drawing.BLUE)
        place.set_title(f"{title}: {100 * per_dashboard(shares):.3f} % of a core each")
        place.set_xlabel("open dashboards")
        place.set_ylabel("CPU of the server's process [% of a core]")
        place.set_ylim(bottom=0)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--dashboards", type=options.numbers, default=[0, 5, 25], help="numbers of open pages")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second of the load")
    parser.add_argument("--duration", type=float, default=4.0, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=1, help="times that all of it is measured; medians count")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "dashboard_cost.txt"
    load.write_texts(texts, 3000, common.texts_from)
    measured: dict[str, list[dict[int, float]]] = {"idle": [], "loaded": []}
    sizes: list[int] = []
    failed = 0
    with Server(common.bundle, common.flags, common.out / "dashboard_cost.log") as server:
        for number in range(arguments.rounds):
            for kind, rate in (("idle", None), ("loaded", arguments.rate)):
                shares = {}
                for count in arguments.dashboards:
                    say(f"round {number + 1}, {kind}, {count} dashboards")
                    with Dashboards(server.port, count) as pages:
                        shares[count] = _share(server, texts, rate, arguments.duration)
                    sizes += pages.poll_bytes
                    failed += len(pages.failures)
                measured[kind].append(shares)
        said = server.said()
    figures = {
        **{kind: medians(rounds) for kind, rounds in measured.items()},
        "rounds": measured,
        "rate": arguments.rate,
        "record_us": record_us(),
        "poll_bytes": statistics.median(sizes) if sizes else 0,
        "failed": failed,
    }
    inputs = {**common.inputs, "server_says": said, "duration_s": arguments.duration}
    return report(common.out, "dashboard_cost", inputs, figures, verdicts(figures), lambda: draw(figures))


def _share(server: Server, texts: Path, rate: float | None, duration_s: float) -> float:
    """Share of a core that the server's own process takes, with a load of `rate` requests per second, None = none."""
    if rate is None:
        time.sleep(_SETTLE_S)
        return _cpu_share(server, duration_s)
    with load.Background(server.url, load.Shape(rate=rate), texts, _SETTLE_S + duration_s + 2) as running:
        time.sleep(_SETTLE_S)
        share = _cpu_share(server, duration_s)
        running.result()
    return share


def _cpu_share(server: Server, duration_s: float) -> float:
    before, began = server.cpu(), time.monotonic()
    time.sleep(duration_s)
    return (server.cpu() - before).server_s / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
