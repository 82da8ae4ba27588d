"""Seconds until the server is ready, over several starts, and the memory of the whole server beside its weights."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options, processes
from experiments.lab.config import server_config
from experiments.lab.server import Server
from experiments.lab.verdicts import Verdict, at_most, report, say

from ridgeline_server.engine.loading import load_models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_READY_S = 2.0
_BESIDE_WEIGHTS_MIB = 350.0
_MIB = 1024 * 1024


def weights_bytes(bundle: Path, flags: list[str]) -> int:
    """Bytes on disk of the variant that these flags serve."""
    (model,) = load_models(server_config(bundle, flags), lambda record: None)
    model.tokenizer.stop()
    variant = model.served.bundle.variant(model.served.plan.variant)
    return sum((bundle / name).stat().st_size for name in variant.files)


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets: the median start, and memory at its larger instant, under load."""
    beside = (figures["loaded_bytes"]["total"] - figures["weights_bytes"]) / _MIB
    return [
        at_most("ready after (median start)", statistics.median(figures["ready_s"]), _READY_S, "s"),
        at_most("memory (PSS) that is not weights", beside, _BESIDE_WEIGHTS_MIB, "MiB"),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Left: seconds of each start. Right: memory of each process, weights marked."""
    figure, (left, right) = drawing.canvas("Start and memory of the whole server", 2)
    ready = figures["ready_s"]
    bars = left.bar(range(1, len(ready) + 1), ready, 0.6, color=drawing.BLUE)
    drawing.label_bars(left, bars, [f"{seconds:.2f}" for seconds in ready])
    left.axhline(_READY_S, color=drawing.RED, linestyle="--", linewidth=1.4, label=f"target: {_READY_S:g} s")
    left.set_title("Seconds from start to ready; process start included")
    left.set_xlabel("start")
    left.set_xticks(range(1, len(ready) + 1))
    left.set_ylim(0, 1.3 * max(_READY_S, *ready))
    left.legend(loc="upper right", frameon=False, fontsize=9)
    weights = figures["weights_bytes"] / _MIB
    for place, instant in enumerate(("ready_bytes", "loaded_bytes")):
        sizes = {name: size / _MIB for name, size in figures[instant].items() if name != "total"}
        bottom = 0.0
        for (name, size), colour in zip(sizes.items(), drawing.SERIES, strict=False):
            bar = right.bar([place], [size], 0.5, bottom=bottom, color=colour, label=None if place else name)
            right.bar_label(bar, [f"{size:.0f}"], label_type="center", color="white", fontsize=9)
            bottom += size
        right.annotate(f"{bottom:.0f} MiB", (place, bottom), ha="center", va="bottom", fontsize=9)
    limit = _BESIDE_WEIGHTS_MIB + weights
    text = f"target: {_BESIDE_WEIGHTS_MIB:g} MiB + {weights:.0f} MiB of weights"
    right.axhline(limit, color=drawing.RED, linestyle="--", linewidth=1.4, label=text)
    right.set_xticks([0, 1], ["when ready", "after load"])
    right.set_title("Memory (PSS) by process [MiB]")
    right.set_ylim(0, 1.5 * max(limit, bottom))
    right.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--starts", type=int, default=3, help="times that the server is started")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of load before memory is read again")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "startup.txt"
    load.write_texts(texts, 3000, common.texts_from)
    ready_s = []
    for start in range(arguments.starts):
        say(f"start {start + 1}")
        with Server(common.bundle, common.flags, common.out / "startup.log") as server:
            ready_s.append(server.ready_s)
            ready_bytes = _by_process(server)
            if start == arguments.starts - 1:
                load.run(server.url, load.Shape(64, 1), texts, arguments.duration)
                loaded_bytes = _by_process(server)
                said = server.said()
    figures = {
        "ready_s": ready_s,
        "weights_bytes": weights_bytes(common.bundle, common.flags),
        "ready_bytes": ready_bytes,
        "loaded_bytes": loaded_bytes,
    }
    inputs = {**common.inputs, "server_says": said, "duration_s": arguments.duration}
    return report(common.out, "startup", inputs, figures, verdicts(figures), lambda: draw(figures))


def _by_process(server: Server) -> dict[str, int]:
    own, *workers = server.pids()
    sizes = {"server": processes.pss_bytes(own)}
    sizes |= {f"worker {index}": processes.pss_bytes(pid) for index, pid in enumerate(workers)}
    return {**sizes, "total": sum(sizes.values())}


if __name__ == "__main__":
    sys.exit(main())
