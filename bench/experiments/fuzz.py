"""Requests that no honest client sends, over HTTP and gRPC: the server stays what it was, and says what it documents.

An attack is made of the seed and its number alone: `--first NUMBER --attacks 1` makes one again. Bundles of other tasks
beside the first open more routes to the attacks that need a right body to spoil.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.fuzzing.campaign import Found, Plan, run
from experiments.lab import drawing, options, processes
from experiments.lab.server import Server, free_port
from experiments.lab.verdicts import Verdict, at_least, at_most, report, say
from rich.console import Console
from rich.table import Table

from ridgeline_server.security.key_file import add_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROWTH = 0.05
_MIB = 1024 * 1024
_SETTLE_S = 2.0
# Failures of the server, as its log has them; gRPC's library writes to it, too.
FAILURE = re.compile(r"\bERROR\b|\bCRITICAL\b|Traceback|^[EF]\d{4} ", re.MULTILINE)


def growth(samples: Sequence[Mapping[str, Any]], attacks: int) -> float | None:
    """Growth of the memory of all processes from half of the attacks on, as a share of what it was there.

    Both ends are medians of three samples. None with fewer than six samples from the half on.
    """
    sizes = [sum(sample["bytes"].values()) for sample in samples if sample["done"] >= attacks / 2]
    if len(sizes) < 6:
        return None
    half, end = sorted(sizes[:3])[1], sorted(sizes[-3:])[1]
    return float(end / half - 1)


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """What a server owes to whom it cannot trust."""
    return [
        at_most("attacks with an outcome that nobody meant", len(figures["findings"]), 0),
        at_least("attacks made", figures["done"], figures["attacks"]),
        at_least("right answers to an honest client meanwhile", figures["probes"], 1),
        at_most("processes that ended or were replaced", figures["replaced"], 0),
        at_most("failures in the server's log", figures["failures_logged"], 0),
        at_most("growth of memory from half of the attacks to the end", figures["growth"], _GROWTH),
    ]


def table(figures: Mapping[str, Any]) -> Table:
    """What came of each kind of attack."""
    made = Table("attack", "made", "what came of it", title="Attacks", title_justify="left")
    for kind, told in sorted(figures["outcomes"].items()):
        often = sorted(told["got"].items(), key=lambda each: -each[1])
        made.add_row(kind, f"{told['attacks']:,}", ", ".join(f"{name} {count:,}" for name, count in often))
    return made


def draw(figures: Mapping[str, Any]) -> Figure:
    """Memory of all processes over attacks."""
    figure, (axes,) = drawing.canvas(f"Memory over {figures['done']:,} attacks")
    thousands = [sample["done"] / 1e3 for sample in figures["samples"]]
    sizes = [sum(sample["bytes"].values()) / _MIB for sample in figures["samples"]]
    axes.plot(thousands, sizes, color=drawing.BLUE, linewidth=2)
    axes.axvline(figures["attacks"] / 2e3, color=drawing.GREY, linestyle=":", label="growth counts from here")
    axes.set_title("Resident memory of server and workers that is no file's [MiB]")
    axes.set_xlabel("thousand attacks")
    axes.set_ylim(0, 1.25 * max(sizes, default=1.0))
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("others", type=Path, nargs="*", help="more bundles to serve")
    parser.add_argument("--attacks", type=int, default=2_000, help="how many; each is one request to some hundred")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=0, help="of all of them")
    parser.add_argument("--concurrency", type=int, default=24, help="attacks at once, slow clients apart")
    parser.add_argument("--slow", type=float, default=15.0, help="most seconds that a slow client stays")
    parser.add_argument("--keys", action="store_true", help="start the server with an API key")
    parser.add_argument("--no-grpc", action="store_true", help="HTTP alone")
    arguments = parser.parse_args()
    common = options.common(arguments)
    port = None if arguments.no_grpc else free_port()
    flags = [*map(str, arguments.others), *(() if port is None else ("--grpc-port", str(port))), *common.flags]
    key = None
    if arguments.keys:
        common.out.mkdir(parents=True, exist_ok=True)
        keys = common.out / "fuzz_keys.toml"
        keys.unlink(missing_ok=True)
        key = add_key(keys, "fuzz")
        flags += ["--api-keys", str(keys)]
    plan = Plan(arguments.seed, range(arguments.first, arguments.first + arguments.attacks), arguments.concurrency)
    found, samples = Found(), []
    with Server(common.bundle, flags, common.out / "fuzz.log", key) as server:
        before = server.pids()

        def observe() -> None:
            sizes = {pid: processes.anonymous_bytes(pid) for pid in server.pids()}
            samples.append({"at_s": time.monotonic(), "done": found.done, "bytes": sizes})

        say(f"{arguments.attacks:,} attacks on {len(before)} processes")
        asyncio.run(run("127.0.0.1", server.port, port, key, plan, found, observe, slow_s=arguments.slow))
        for _ in range(3):
            time.sleep(_SETTLE_S / 3)
            observe()
        after = server.pids()
        said = server.said()
    figures = {
        "attacks": arguments.attacks,
        **found.figures(),
        "replaced": len(set(before) ^ set(after)),
        "failures_logged": len(FAILURE.findall(server.log.read_text(errors="replace"))),
        "samples": samples,
        "growth": growth(samples, arguments.attacks),
    }
    inputs = {**common.inputs, "beside": [str(bundle) for bundle in arguments.others], "server_says": said}
    inputs |= {name: getattr(arguments, name) for name in ("first", "seed", "concurrency", "slow", "keys", "no_grpc")}
    Console().print(table(figures))
    for finding in found.findings[:20]:
        say(f"attack {finding['number']} ({finding['kind']}): {finding['what']}")
    return report(common.out, "fuzz", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
