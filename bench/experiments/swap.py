"""A new version of a model replaces the old one under load, again and again: no request may be lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.lab import drawing, load, markdown, options
from experiments.lab.models import write_models_file
from experiments.lab.server import Server
from experiments.lab.task_requests import ask, parts_of
from experiments.lab.verdicts import Verdict, at_least, at_most, report, say

from ridgeline_bench import fleet, results
from ridgeline_bench.plan import Plan
from ridgeline_server.security.key_file import add_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MODEL = "swapped"
_REQUESTS = 2000
_TIMEOUT_S = 60.0
_LEAST_SWAPS = 3


def make_repository(path: Path, bundles: Sequence[Path]) -> list[str]:
    """A new directory with the bundles in it, under names that are returned; their files are linked, else copied."""
    shutil.rmtree(path, ignore_errors=True)
    names = [f"version-{number}" for number in range(1, len(bundles) + 1)]
    for name, bundle in zip(names, bundles, strict=True):
        shutil.copytree(bundle.resolve(), path / name, copy_function=_link)
    return names


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def around_swaps(per_second: Sequence[Mapping[str, Any]], swaps: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The worst p99 of the seconds in which a version was loading, and of the others; None where there were none."""
    worst: dict[bool, float] = {}
    for each in per_second:
        if each["p99_s"] is not None:
            second = each["second"]
            is_swapping = any(swap["at_s"] < second + 1 and second < swap["at_s"] + swap["seconds"] for swap in swaps)
            worst[is_swapping] = max(worst.get(is_swapping, 0.0), each["p99_s"])
    return {"during_s": worst.get(True), "else_s": worst.get(False)}


def verdicts(figures: Mapping[str, Any]) -> list[Verdict]:
    """The targets."""
    results = figures["results"]
    return [
        at_most("requests that failed", results["failed"] + results["unfinished"], 0),
        at_most("requests that were refused (429)", results["refused"], 0),
        at_least("swaps under load", len(figures["swaps"]), _LEAST_SWAPS),
        at_most("versions that are not the expected one", abs(figures["version"] - 1 - len(figures["swaps"])), 0),
    ]


def tables(figures: Mapping[str, Any]) -> list[str | markdown.Table]:
    """As Markdown shows them."""
    found, worst = figures["results"], figures["p99"]
    latency = found["latency_s"] or {}
    swaps = [
        [str(swap["version"]), swap["bundle"], f"{swap['at_s']:.1f}", f"{swap['seconds']:.2f}"]
        for swap in figures["swaps"]
    ]
    return [
        f"{found['requests']} requests of {figures['load']}: {found['succeeded']} answered, {found['failed']} failed, "
        f"{found['refused']} refused; {found['throughput_requests_per_s']:.0f} a second, "
        f"p50 {markdown.milliseconds(latency.get('p50'))} ms, p99 {markdown.milliseconds(latency.get('p99'))} ms. "
        f"Worst p99 of a second with a swap {markdown.milliseconds(worst['during_s'])} ms, without one "
        f"{markdown.milliseconds(worst['else_s'])} ms.",
        markdown.Table(("version", "bundle", "swap began [s]", "took [s]"), swaps),
    ]


def draw(figures: Mapping[str, Any]) -> Figure:
    """Left: answers per second. Right: p50 and p99 of each second. Swaps are shaded."""
    found, swaps = figures["results"], figures["swaps"]
    title = f"{len(swaps)} swaps under load: {found['failed']} of {found['requests']:,} requests failed"
    figure, (left, right) = drawing.canvas(title, 2)
    series = [each for each in found["per_second"] if each["seconds"] > 0.9]
    seconds = [each["second"] + 0.5 for each in series]
    left.plot(seconds, [each["replies"] for each in series], color=drawing.GREEN, label="answered (200)")
    left.plot(seconds, [each["refused"] for each in series], color=drawing.AMBER, label="refused (429)")
    left.plot(seconds, [each["errors"] for each in series], color=drawing.RED, label="failed")
    left.set_title("Requests per second")
    for quantile, colour in (("p50_s", drawing.GREEN), ("p99_s", drawing.BLUE)):
        points = [(at, 1e3 * each[quantile]) for at, each in zip(seconds, series, strict=True) if each[quantile]]
        right.plot([at for at, _ in points], [value for _, value in points], color=colour, label=quantile[:3])
    right.set_title("Latency in each second [ms]")
    for axes in (left, right):
        for number, swap in enumerate(swaps):
            label = None if number else "a new version loads and takes over"
            axes.axvspan(swap["at_s"], swap["at_s"] + swap["seconds"], color=drawing.AMBER, alpha=0.15, label=label)
        axes.set_xlabel("time [s]")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best", fontsize=8)
    return figure


def swap_until(server: Server, names: Sequence[str], until: float, every_s: float) -> list[dict[str, Any]]:
    """Replace the model by each bundle in turn, as long as another swap would be over by an instant of CLOCK_MONOTONIC.

    Returns of each the instant "at" which it was asked for, its "seconds", "version" and "bundle".
    """
    swaps: list[dict[str, Any]] = []
    while time.monotonic() + max((swap["seconds"] for swap in swaps), default=0.0) < until:
        bundle = names[(len(swaps) + 1) % len(names)]
        began = time.monotonic()
        told = json.loads(ask(server, "POST", "/admin/models", json.dumps({"name": _MODEL, "bundle": bundle}).encode()))
        seconds = time.monotonic() - began
        say(f"version {told['version']}, after {seconds:.1f} s")
        swaps.append({"at": began, "seconds": seconds, "version": told["version"], "bundle": bundle})
        time.sleep(max(0.0, min(every_s, until - time.monotonic())))
    return swaps


def main() -> int:
    parser = options.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("other", type=Path, nargs="?", help="bundle of every second version; the same one without it")
    parser.add_argument("--task", default="", help="asked of the model; its first of GET /tasks without it")
    parser.add_argument("--connections", type=int, default=32, help="of the load, in a closed loop")
    parser.add_argument("--rate", type=float, help="requests per second at random instants, instead of --connections")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of load")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from the end of a swap until the next one")
    parser.add_argument("--count", type=int, default=3000, help="texts")
    arguments = parser.parse_args()
    common = options.common(arguments)
    common.out.mkdir(parents=True, exist_ok=True)
    texts = load.write_texts(common.out / "swap.txt", arguments.count, common.texts_from)
    repository, keys = common.out / "swap_repository", common.out / "swap_keys.toml"
    names = make_repository(repository, [common.bundle, arguments.other or common.bundle])
    keys.unlink(missing_ok=True)
    key = add_key(keys, "swap", is_admin=True)
    models = {_MODEL: repository / names[0]}
    flags = [*write_models_file(common.out / "swap.toml", models, {}), "--model-repository", str(repository)]
    with Server(None, [*flags, "--api-keys", str(keys), *common.flags], common.out / "swap.log", key) as server:
        (part,) = parts_of(server, models, [arguments.task] if arguments.task else [], False)
        plan = Plan(
            address="127.0.0.1",
            port=server.port,
            requests=tuple(part.requests(server.port, texts, _REQUESTS, key)),
            concurrency=None if arguments.rate else arguments.connections,
            rate=arguments.rate,
            warmup_s=1.0,
            duration_s=arguments.duration,
            timeout_s=_TIMEOUT_S,
            max_connections=1024,
            seed=0,
        )
        say(f"{part.name} under load")
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(fleet.run, [plan], lambda tick: None, lambda: None)
            time.sleep(1.0 + arguments.every)
            swaps = swap_until(server, names, time.monotonic() + arguments.duration - arguments.every, arguments.every)
            outcomes = loading.result().outcomes
        served = json.loads(ask(server, "GET", "/admin/models", None))["models"]
        said = server.said()
    shutil.rmtree(repository)
    sample = results.merge(outcomes)
    found = results.figures(sample, outcomes, 1)
    opened, closed = found["window_monotonic_s"]
    told = [{**swap, "at_s": swap["at"] - opened} for swap in swaps if swap["at"] + swap["seconds"] <= closed]
    figures = {
        "results": found,
        "swaps": told,
        "late_swaps": len(swaps) - len(told),
        "p99": around_swaps(found["per_second"], told),
        "version": max(each["version"] for each in served) - (len(swaps) - len(told)),
        "load": part.name
        + (f", {arguments.rate:g} requests/s" if arguments.rate else f", {arguments.connections} connections"),
    }
    inputs = {**common.inputs, "other": str(arguments.other or "the same"), "server_says": said}
    inputs |= {"duration_s": arguments.duration, "every_s": arguments.every, "connections": arguments.connections}
    judged = verdicts(figures)
    markdown.write(common.out / "swap.md", "New versions of a model under load", inputs, tables(figures), judged)
    return report(common.out, "swap", inputs, figures, judged, lambda: draw(figures))


if __name__ == "__main__":
    sys.exit(main())
