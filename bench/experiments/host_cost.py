"""CPU time of the server's own process for a single-text request, step by step, held against the total under load.

Steps are timed in isolation on the real objects. HTTP is measured on the server's HTTP layer with an application that
answers at once, the engine on a replay without HTTP; what their measured parts leave over stands as a step of its own.
"""

from __future__ import annotations

import http.client
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options, processes
from experiments.lab.aside import run_module
from experiments.lab.client import embeddings_body
from experiments.lab.server import Server, free_port
from experiments.lab.verdicts import Verdict, at_most, median_of, report, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TARGET_US = 250.0
_LOAD = load.Shape(32, 1)
_HTTP, _REST = "HTTP: sockets, parsing, task, writing", "engine: futures, threads, worker sockets"
_ENGINE = ("schedule", "pack and encode", "decode and split", "normalize")


def steps_us(isolated: Mapping[str, float], http_us: float, engine_us: float) -> dict[str, float]:
    """All steps in µs for each request; the engine's remainder is what its total has beyond its measured parts."""
    rest = engine_us - sum(isolated[name] for name in _ENGINE)
    return {_HTTP: http_us, **isolated, _REST: max(0.0, rest)}


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The target, for the sum of the steps and for the total."""
    return [
        at_most("sum of the steps", sum(figures["steps_us"].values()), _TARGET_US, "µs"),
        at_most("server process under load, for each request", figures["total_us"], _TARGET_US, "µs"),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """A bar for each step, the largest first; below them their sum and the total."""
    figure, (axes,) = drawing.canvas("CPU time of the server's process for one single-text request", 1, 6.0)
    steps = sorted(figures["steps_us"].items(), key=lambda step: step[1])
    total, added = figures["total_us"], sum(figures["steps_us"].values())
    names = ["server process under load", "sum of the steps", *(name for name, _ in steps)]
    values = [total, added, *(value for _, value in steps)]
    colours = [drawing.GREEN, drawing.AMBER, *[drawing.BLUE] * len(steps)]
    drawing.label_bars(axes, axes.barh(names, values, color=colours), [f"{value:.1f} µs" for value in values])
    axes.axvline(_TARGET_US, color=drawing.RED, linestyle="--", linewidth=1.4, label=f"target: {_TARGET_US:g} µs")
    axes.set_xlim(0, 1.15 * max(*values, _TARGET_US))
    axes.set_xlabel("µs")
    axes.set_title(_LOAD.name)
    axes.legend(loc="center right", frameon=False, fontsize=9)
    return figure


def http_cost_us(answer: bytes, rate: float, texts: Path, out: Path, duration_s: float) -> float:
    """CPU µs for each request of the HTTP layer with an application that answers at once.

    rate: requests per second, those that the whole server answers: at its own full speed HTTP costs less per request
    """
    port = free_port()
    path = out / "host_cost_answer.json"
    path.write_bytes(answer)
    process = subprocess.Popen([sys.executable, "-m", "experiments.lab.echo", str(port), str(path)])
    try:
        _wait_open(port)
        before = processes.cpu_s(process.pid)
        result = load.run(f"http://127.0.0.1:{port}", load.Shape(rate=rate), texts, duration_s, 0.0, "--model", "any")
        # The generator asks a few times before the load and never during it: nothing beside its thousands.
        return 1e6 * (processes.cpu_s(process.pid) - before) / float(result["results"]["requests"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def server_cost_us(server: Server, texts: Path, duration_s: float) -> tuple[float, float]:
    """CPU µs of the server's own process for each request under load, its warm-up included, and requests per second."""
    answered, cpu = server.answered(), server.cpu()
    result = load.run(server.url, _LOAD, texts, duration_s)
    cost_us = 1e6 * (server.cpu() - cpu).server_s / (server.answered() - answered)
    return cost_us, float(result["results"]["throughput_requests_per_s"])


def one_answer(server: Server, model: str) -> bytes:
    """The answer to one text, as clients get it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    body = embeddings_body(model, ["One text for all."])
    connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return answer


def _wait_open(port: int) -> None:
    for _ in range(1000):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.connect()
            return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise TimeoutError("the HTTP layer does not listen after 20 s")


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=1, help="times that everything is measured; the median counts")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of each load and replay")
    parser.add_argument("--count", type=int, default=1000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    texts = common.out / "host_cost.txt"
    load.write_texts(texts, arguments.count, common.texts_from)
    rounds, totals = [], []
    loaded = ("--connections", _LOAD.connections, "--duration", arguments.duration)
    with Server(common.bundle, common.flags, common.out / "host_cost.log") as server:
        answer = one_answer(server, common.model)
        for _ in range(arguments.rounds):
            say("steps in isolation")
            isolated = run_module("experiments.lab.steps", common.bundle, texts, *common.flags)
            say("the whole server")
            total_us, rate = server_cost_us(server, texts, arguments.duration)
            totals.append(total_us)
            say("HTTP layer")
            http_us = http_cost_us(answer, rate, texts, common.out, arguments.duration)
            say("engine without HTTP")
            replayed = run_module("experiments.lab.replay", common.bundle, texts, *loaded, *common.flags)
            rounds.append(steps_us(isolated, http_us, replayed["engine_cpu_us"]))
        said = server.said()
    steps = median_of(rounds)
    figures = {"steps_us": steps, "total_us": statistics.median(totals), "rounds": rounds, "totals": totals}
    inputs = {**common.inputs, "server_says": said, "rounds": arguments.rounds, "count": arguments.count}
    inputs |= {"duration_s": arguments.duration}
    for name, value in sorted(steps.items(), key=lambda step: -step[1]):
        print(f"{value:8.1f} µs  {name}")
    return report(common.out, "host_cost", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
