"""The results for people: a table on the terminal, and the files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

_MANY_LAGS_S = 0.005
_BUSY_GENERATOR = 0.9


def table(result: Mapping[str, Any]) -> Table:
    """The figures that matter, a row each."""
    shown = Table(title=title(result), show_header=False, title_justify="left", min_width=60)
    shown.add_column(style="bold")
    shown.add_column()
    for name, value in rows(result):
        shown.add_row(name, value)
    return shown


def title(result: Mapping[str, Any]) -> str:
    """What ran, such as "closed loop, 32 connections, 20 s, 1 text per request to /v1/embeddings"."""
    inputs = result["inputs"]
    if inputs["loop"] == "open":
        load = f"open loop, {inputs['rate_requests_per_s']:g} requests/s"
    else:
        load = f"closed loop, {inputs['concurrency']} connection{'' if inputs['concurrency'] == 1 else 's'}"
    texts = f"{inputs['texts_per_request']} text{'' if inputs['texts_per_request'] == 1 else 's'} per request"
    return f"{load}, {result['results']['duration_s']:.3g} s, {texts} to {inputs['path']}"


def rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of the table."""
    figures, server, generator = result["results"], result["server"], result["generator"]
    yield "requests", f"{figures['requests']:,} sent, {figures['succeeded']:,} succeeded{_refused(figures)}"
    yield "throughput", _throughput(figures)
    latency = figures["latency_s"]
    if latency is not None:
        names = ("p50", "p90", "p99", "max")
        yield "latency", "  ".join(f"{name} {milliseconds(latency[name])}" for name in names)
    yield "errors", ", ".join(f"{kind}: {count:,}" for kind, count in figures["errors"].items()) or "none"
    if figures["unfinished"]:
        yield "unfinished", f"{figures['unfinished']:,} requests when the run was cut short"
    timing = figures["server_timing_s"]
    if timing:
        yield "server's time", "  ".join(f"{phase} {milliseconds(mean)}" for phase, mean in timing.items())
    if server is not None:
        yield "server", _server(server)
    yield "generator", _generator(generator)


def warnings(result: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on what makes the figures doubtful."""
    generator, inputs = result["generator"], result["inputs"]
    if generator["waited_for_connection"]:
        yield (
            f"{generator['waited_for_connection']:,} requests had to wait for a connection since "
            f"{inputs['max_connections']} were open: the server cannot keep up with this rate "
            "(the waiting is part of their latency)."
        )
    lag = generator["send_lag_s"]
    if lag is not None and lag["mean"] > _MANY_LAGS_S and not generator["waited_for_connection"]:
        yield (
            f"Requests left {milliseconds(lag['mean'])} later than meant on average: the generator did not get enough "
            "CPU time, so part of the latency is its own."
        )
    share = (generator["cpu_share_of_one_core"] or 0.0) / generator["processes"]
    if share > _BUSY_GENERATOR:
        yield f"The generator used {share:.0%} of a core per process: it may be the bottleneck; try more --processes."
    if result["interrupted"]:
        yield "The run was cut short; the figures are of what was measured until then."


def write_json(result: Mapping[str, Any], path: Path) -> None:
    """Write the whole result; no NaN ever."""
    path.write_text(json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def milliseconds(seconds: float) -> str:
    """Three digits, such as "0.41 ms", "12.3 ms" or "1,234 ms"."""
    value = seconds * 1e3
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} ms"


def _refused(figures: Mapping[str, Any]) -> str:
    return f", {figures['refused']:,} refused with 429" if figures["refused"] else ""


def _throughput(figures: Mapping[str, Any]) -> str:
    parts = [
        f"{figures['throughput_requests_per_s']:,.1f} requests/s",
        f"{figures['throughput_texts_per_s']:,.1f} texts/s",
    ]
    if figures["tokens_per_s"] is not None:
        parts.append(f"{figures['tokens_per_s']:,.0f} tokens/s")
    return "  ".join(parts)


def _server(server: Mapping[str, Any]) -> str:
    def share(name: str) -> str:
        return "not measured" if server[name] is None else f"{server[name]:.1%}"

    return f"MFU {share('mfu')}  HFU {share('hfu')}  padding waste {share('padding_waste')}"


def _generator(generator: Mapping[str, Any]) -> str:
    parts = [f"{generator['cpu_share_of_one_core'] or 0.0:.1%} of a core"]
    if generator["cpu_us_per_request"] is not None:
        parts.append(f"{generator['cpu_us_per_request']:.0f} µs CPU per request")
    if generator["send_lag_s"] is not None:
        parts.append(f"sent {milliseconds(generator['send_lag_s']['mean'])} late on average")
    return "  ".join(parts)
