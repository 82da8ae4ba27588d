"""Workers killed and stopped at random under load: everybody gets an answer, the right one, and nothing leaks.

The references come from the same server before the chaos, each text alone. How far answers differ by the shape of the
batch that they ran in (int8 through some runtimes does) is measured before, shape by shape; chaos may not add to that.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from experiments.lab import checked_load, drawing, load, options, processes
from experiments.lab.aside import run_module
from experiments.lab.attack import Attacker
from experiments.lab.server import Server, ServerError
from experiments.lab.verdicts import Verdict, at_most, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INVARIANT = 1e-5
_RECOVERY_S = 60.0
_SETTLE_S = 3.0
_MEMORY = 1.05


def tolerance(between_shapes: float) -> float:
    """Largest difference that the chaos may show: 1e-5, or what the shape of a batch makes, and a quarter more."""
    return max(_INVARIANT, 1.25 * between_shapes)


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets."""
    before, after, statuses = figures["before"], figures["after"], figures["statuses"]
    memory = after["server_bytes"] / before["server_bytes"]
    return [
        at_most("requests without an answer", statuses.get("0", 0), 0),
        at_most("requests blamed for a worker's end (500)", statuses.get("500", 0), 0),
        at_most("answers of another text, or of a wrong count", figures["misplaced"], 0),
        at_most("largest difference to the reference", figures["largest_difference"], figures["tolerance"]),
        at_most("the same on the calm server", figures["calm_largest_difference"], figures["tolerance"]),
        at_most("processes more than before", after["processes"] - before["processes"], 0),
        at_most("open files more than before", after["open_files"] - before["open_files"], 0),
        at_most("memory of the server's own process after / before", memory, _MEMORY),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Left: answers per second with every blow marked. Right: latency of each request over time."""
    figure, (left, right) = drawing.canvas("Workers killed and stopped at random under load", 2)
    seconds = range(int(figures["duration_s"]))
    good = [figures["per_second"].get(str(second), 0) for second in seconds]
    left.stairs(good, [*seconds, len(seconds)], color=drawing.GREEN, linewidth=2, label="answered (200) per second")
    kinds = {"killed (SIGKILL)": (drawing.RED, False), "stopped (SIGSTOP)": (drawing.AMBER, True)}
    for name, (colour, is_stop) in kinds.items():
        for number, blow in enumerate(each for each in figures["blows"] if bool(each["stopped_s"]) == is_stop):
            left.axvline(blow["at"], color=colour, linewidth=1, alpha=0.7, label=None if number else name)
    asked = sum(figures["statuses"].values())
    left.set_title(
        f"{asked:,} requests, {figures['statuses'].get('0', 0)} without an answer, {figures['misplaced']} wrong"
    )
    left.set_xlabel("time [s]")
    left.set_ylim(0, 1.4 * max(good, default=1))
    left.legend(loc="upper center", ncols=3, frameon=False, fontsize=9)
    points = figures["slowest_per_second"]
    right.plot(
        [int(second) for second in points], list(points.values()), color=drawing.BLUE, label="slowest asked then"
    )
    right.axhline(figures["calm_slowest_s"], color=drawing.GREY, linestyle="--", label="slowest on the calm server")
    right.set_ylim(0, 1.25 * max(*points.values(), figures["calm_slowest_s"]))
    right.set_title("Seconds until the answer")
    right.set_xlabel("time [s]")
    right.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--duration", type=float, default=8.0, help="seconds of chaos")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds of the calm load before")
    parser.add_argument("--clients", type=int, default=16, help="connections of the load")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two blows, on average")
    parser.add_argument("--longest-stop", type=float, default=1.0, help="seconds that a worker may be stopped, at most")
    parser.add_argument("--devices", help="as `ridgeline serve` takes them, such as cpu:0,cpu:1")
    parser.add_argument("--seed", type=int, default=0, help="of the blows and the texts")
    parser.add_argument("--count", type=int, default=300, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    flags = [*common.flags, *(["--devices", arguments.devices] if arguments.devices else [])]
    texts = load.write_texts(common.out / "chaos.txt", arguments.count, common.texts_from)
    say("differences between shapes")
    shapes = run_module("experiments.lab.offline", "shapes", common.bundle, common.out / "chaos.txt", *flags)
    with Server(common.bundle, flags, common.out / "chaos.log") as server:
        figures = asyncio.run(_chaos(server, common.model, texts, arguments))
        said = server.said()
    figures |= {"between_shapes": shapes, "tolerance": tolerance(shapes["largest"])}
    names = ("calm", "clients", "every", "longest_stop", "devices", "seed", "count")
    inputs = {**common.inputs, "server_says": said, **{name: getattr(arguments, name) for name in names}}
    return report(common.out, "chaos", inputs, figures, verdicts(figures), lambda: draw(figures))


async def _chaos(server: Server, model: str, texts: list[str], arguments: Any) -> dict[str, Any]:
    say("references")
    expected = await checked_load.references(server.port, model, texts)
    say("calm load")
    given = (server.port, model, texts, expected, arguments.clients)
    calm = await checked_load.run(*given, arguments.calm, arguments.seed)
    before = await _holdings(server)
    attacker = Attacker(server.workers, arguments.seed, arguments.every, arguments.longest_stop)
    attack = asyncio.create_task(attacker.run())
    # It ends with the load: the last answers may still be on their way.
    asyncio.get_running_loop().call_later(arguments.duration, attack.cancel)
    say("chaos")
    began = time.monotonic()
    seen = await checked_load.run(*given, arguments.duration, arguments.seed + 1)
    await asyncio.wait([attack])
    say("recovery")
    await _wait_whole(server, before["processes"])
    slowest: dict[str, float] = {}
    per_second: dict[str, int] = {}
    for asked, seconds, status in seen.answers:
        second, done = str(int(asked - began)), str(int(asked + seconds - began))
        slowest[second] = max(slowest.get(second, 0.0), seconds)
        per_second[done] = per_second.get(done, 0) + (status == 200)
    return {
        "duration_s": arguments.duration,
        "statuses": {str(status): count for status, count in seen.statuses.items()},
        "misplaced": calm.misplaced + seen.misplaced,
        "different_requests": sum(difference > 0 for difference in seen.differences),
        "calm_largest_difference": calm.largest,
        "largest_difference": seen.largest,
        "nearest_other_text": checked_load.nearest_other(expected),
        "calm_requests": sum(calm.statuses.values()),
        "calm_slowest_s": max(seconds for _, seconds, _ in calm.answers),
        "per_second": per_second,
        "slowest_per_second": slowest,
        "blows": [asdict(blow) | {"at": blow.at - began} for blow in attacker.blows],
        "before": before,
        "after": await _holdings(server),
    }


async def _wait_whole(server: Server, count: int) -> None:
    """Until every worker is back. Raises ServerError when that does not happen."""
    until = time.monotonic() + _RECOVERY_S
    while time.monotonic() < until:
        await asyncio.sleep(0.2)
        if len(server.pids()) == count and all(replicas_ready(server)):
            return
    raise ServerError(f"not all workers are back {_RECOVERY_S:g} s after the chaos; see {server.log}")


def replicas_ready(server: Server) -> list[bool]:
    """For each model, whether all its replicas can serve, as GET /metrics tells."""
    lines = server.get("/metrics").decode().splitlines()
    values = {
        name: [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"ridgeline_{name}{{")]
        for name in ("replicas", "ready_replicas")
    }
    return [ready == all_ for ready, all_ in zip(values["ready_replicas"], values["replicas"], strict=True)]


async def _holdings(server: Server) -> dict[str, int]:
    """What the server holds when nobody is connected."""
    await asyncio.sleep(_SETTLE_S)
    return {
        "processes": len(server.pids()),
        "open_files": processes.open_files(server.pid),
        "server_bytes": processes.pss_bytes(server.pid),
        "all_bytes": sum(map(processes.pss_bytes, server.pids())),
    }


if __name__ == "__main__":
    sys.exit(main())
