"""Ridgeline and its peers on one machine: the same model, texts and loads, each peer with its best settings.

Each peer's settings are tried for a moment at 32 connections; the best is measured under every load. Environments are
made under build/peers at the first use.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, options
from experiments.lab.server import free_port
from experiments.lab.verdicts import Verdict, at_least, report, say
from peers.catalog import PEERS, Peer, Setting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOADS = (load.Shape(1, 1), load.Shape(32, 1), load.Shape(1, 32), load.Shape(32, 32))
_TRIAL = load.Shape(32, 1)
# Texts that `encode` gets in a call, beside the load in which as many wait at once; it sorts them by length itself.
_TEXTS_A_CALL = {load.Shape(1, 1): 1, load.Shape(32, 32): 1024}
_OVER_INFINITY = 10.0
_START_S = 180.0
# A slow peer needs half a minute for 32 texts from each of 32 connections.
_PATIENCE = ("--timeout", "300")


@contextmanager
def serving(peer: Peer, setting: Setting, log: Path) -> Iterator[str]:
    """Start a server and yield its URL once it answers; ends it in any case."""
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in setting.command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **setting.environment}, stdout=file, stderr=file)
    try:
        _wait_ready(process, port, peer.ready, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.2)
    raise RuntimeError(f"the peer did not start; see {log}")


def measure(peer: Peer, common: options.Common, texts: Path, duration_s: float, trial_s: float) -> dict[str, Any]:
    """Texts per second and latencies of one peer under every load that it can take, with its best setting."""
    settings = peer.settings(common.bundle)
    if peer.path is None:
        return _measure_offline(settings, texts, duration_s)
    log = common.out / "peers.log"
    rates = {}
    for setting in settings if len(settings) > 1 else []:
        say(f"{peer.name}: trying {setting.name}")
        with serving(peer, setting, log) as url:
            rates[setting.name] = _measure_load(url + peer.path, _TRIAL, texts, trial_s)["texts_per_s"]
    best = max(settings, key=lambda setting: rates.get(setting.name, 0.0))
    loads = {}
    for shape in _LOADS:
        say(f"{peer.name}, {best.name}: {shape.name}")
        # A fresh server for each load: what one load left queued is not the next one's.
        with serving(peer, best, log) as url:
            loads[shape.name] = _measure_load(url + peer.path, shape, texts, duration_s)
    return {"setting": best.name, "trials": rates, "loads": loads}


def _measure_load(url: str, shape: load.Shape, texts: Path, duration_s: float) -> dict[str, Any]:
    """One load; a peer that answers nothing under it has a rate of 0, and what the generator said."""
    try:
        results = load.run(url, shape, texts, duration_s, 1.0, *_PATIENCE)["results"]
    except load.LoadError as error:
        return {"texts_per_s": 0.0, "error": str(error)}
    latency = results["latency_s"]
    return {
        "texts_per_s": results["throughput_texts_per_s"],
        "p50_s": latency["p50"],
        "p99_s": latency["p99"],
        "refused": results["refused"],
        "errors": results["errors"],
    }


def _measure_offline(settings: Sequence[Setting], texts: Path, duration_s: float) -> dict[str, Any]:
    """`encode` one text at a time, and 1,024 in batches of 32."""
    trials: dict[str, float] = {}
    loads: dict[str, Any] = {}
    chosen: dict[str, str] = {}
    for shape, count in _TEXTS_A_CALL.items():
        for setting in settings:
            say(f"encode, {count} text(s) a call, {setting.name}")
            given = ["--texts-per-call", str(count), "--duration", f"{duration_s:g}"]
            command = [*setting.command, str(texts), *given]
            environment = {**os.environ, **setting.environment}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            told = json.loads(done.stdout.splitlines()[-1])
            trials[f"{count} text(s) a call, {setting.name}"] = told["texts_per_s"]
            if shape.name not in loads or told["texts_per_s"] > loads[shape.name]["texts_per_s"]:
                loads[shape.name] = told
                chosen[shape.name] = setting.name
    return {"setting": chosen, "trials": trials, "loads": loads}


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """Ahead of every peer under every load that it took, and ten times Infinity at 32 connections."""
    measured = figures["peers"]
    ours = measured.get("ridgeline-int8")
    found = []
    for key, peer in measured.items():
        if ours is None or key.startswith("ridgeline"):
            continue
        for name, result in peer["loads"].items():
            least = _OVER_INFINITY if key.startswith("infinity") and name == _TRIAL.name else 1.0
            ratio = ours["loads"][name]["texts_per_s"] / result["texts_per_s"] if result["texts_per_s"] else None
            found.append(at_least(f"Ridgeline int8 / {PEERS[key].name}: {name}", ratio, least))
    return found


def draw(figures: Mapping[str, Any]) -> Figure:
    """Texts per second by load, a bar for each peer, its precision in the legend; logarithmic, since they lie apart."""
    figure, (axes,) = drawing.canvas("Embeddings per second, all-MiniLM-L6-v2: the same texts and loads", 1, 6.0)
    measured = figures["peers"]
    width = 0.86 / len(measured)
    for index, (key, peer) in enumerate(measured.items()):
        at = [place for place, shape in enumerate(_LOADS) if shape.name in peer["loads"]]
        values = [peer["loads"][_LOADS[place].name]["texts_per_s"] for place in at]
        places = [place + (index - (len(measured) - 1) / 2) * width for place in at]
        label = f"{PEERS[key].name} ({PEERS[key].precision})"
        bars = axes.bar(places, values, 0.94 * width, color=drawing.SERIES[index], label=label)
        drawing.label_bars(axes, bars, [f"{value:,.0f}" for value in values])
    axes.set_yscale("log")
    axes.set_ylim(1, 30 * max(each["texts_per_s"] for peer in measured.values() for each in peer["loads"].values()))
    axes.set_xticks(
        range(len(_LOADS)), [f"{shape.name.split(', ')[0]} a request,\n{shape.name.split(', ')[1]}" for shape in _LOADS]
    )
    axes.set_ylabel("texts per second (log scale)")
    axes.legend(loc="upper left", ncols=3, frameon=False, fontsize=9)
    return figure


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, comma-separated")
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of each load")
    parser.add_argument("--trial", type=float, default=2.0, help="seconds for which each setting is tried")
    parser.add_argument("--count", type=int, default=3000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    names = arguments.peers.split(",")
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        parser.error(f"--peers has '{unknown[0]}'; allowed: {', '.join(PEERS)}")
    texts = (common.out / "peers.txt").absolute()
    load.write_texts(texts, arguments.count, common.texts_from)
    measured = {name: measure(PEERS[name], common, texts, arguments.duration, arguments.trial) for name in names}
    figures = {"peers": measured, "precision": {name: PEERS[name].precision for name in names}}
    inputs = {**common.inputs, "duration_s": arguments.duration, "count": arguments.count}
    return report(common.out, "peers", inputs, figures, verdicts(figures), lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
