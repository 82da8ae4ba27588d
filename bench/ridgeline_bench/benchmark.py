"""One benchmark, from the options to the results as the JSON file holds them."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ridgeline_bench import fleet, results, server_figures
from ridgeline_bench.corpus import Corpus, corpus_from_file, standard_library_docstrings
from ridgeline_bench.errors import RunError
from ridgeline_bench.machine import describe_machine
from ridgeline_bench.options import Options
from ridgeline_bench.plan import Plan
from ridgeline_bench.target import Target, find_address, first_model, parse_target, try_once

FORMAT = 2

Measured = tuple[dict[str, Any], results.Sample]


def benchmark(options: Options, say: Callable[[str], None], on_tick: Callable[[fleet.Tick], None]) -> Measured:
    """Run it: the results as JSON holds them, and the sample that they come from.

    `say` is told each step before the load, `on_tick` how the load goes on.

    Raises UsageError and RunError.
    """
    target = parse_target(options.url, options.path)
    say("Reading the texts")
    corpus = _corpus(options)
    say(f"Trying {target.origin}{target.path}")
    address = find_address(target, options.timeout_s)
    model = options.model
    if target.is_openai and model is None:
        model = first_model(target, options.timeout_s)
    bodies = request_bodies(target, corpus, model, options.texts_per_request)
    try_once(target, bodies[0], options.texts_per_request, options.timeout_s)
    say("Starting the load")
    plan = Plan(
        address=address,
        port=target.port,
        requests=tuple(target.request(body, options.request_timeout_s) for body in bodies),
        concurrency=options.concurrency,
        rate=options.rate,
        warmup_s=options.warmup_s,
        duration_s=options.duration_s,
        timeout_s=options.timeout_s,
        max_connections=options.max_connections,
        seed=options.seed,
    )
    started = datetime.now(UTC)
    meter = _Meter(target)
    run = fleet.run(fleet.split(plan, options.processes), on_tick, meter.begin)
    server = meter.end()
    sample = results.merge(run.outcomes)
    if sample.duration_s == 0:
        raise RunError("stopped before the measurement began; --warmup 0 measures from the first request on")
    result = {
        "format": FORMAT,
        "tool": "ridgeline bench",
        "started": started.isoformat(timespec="seconds"),
        "interrupted": run.interrupted,
        "inputs": _inputs(options, target, corpus, model),
        "machine": describe_machine(),
        "results": results.figures(sample, run.outcomes, options.texts_per_request),
        "server": server,
        "generator": results.generator_figures(run.outcomes, sample.duration_s, meter.command_cpu_s),
        "definitions": results.DEFINITIONS,
    }
    return result, sample


def request_bodies(target: Target, corpus: Corpus, model: str | None, texts_per_request: int) -> list[bytes]:
    """JSON bodies of `texts_per_request` texts each; together they go through the corpus once, its last wrapping."""
    texts = corpus.texts
    starts = range(0, len(texts), texts_per_request)
    groups = ([texts[(start + i) % len(texts)] for i in range(texts_per_request)] for start in starts)
    return [target.body(group, model) for group in groups]


def _corpus(options: Options) -> Corpus:
    return corpus_from_file(options.texts) if options.texts else standard_library_docstrings(options.seed)


def _inputs(options: Options, target: Target, corpus: Corpus, model: str | None) -> dict[str, Any]:
    return {
        "command": _command(),
        "url": target.origin,
        "path": target.path,
        "model": model,
        "loop": options.loop,
        "concurrency": options.concurrency,
        "rate_requests_per_s": options.rate,
        "duration_s": options.duration_s,
        "warmup_s": options.warmup_s,
        "timeout_s": options.timeout_s,
        "request_timeout_s": options.request_timeout_s,
        "texts": {
            "source": corpus.source,
            "count": len(corpus.texts),
            "mean_characters": sum(map(len, corpus.texts)) / len(corpus.texts),
        },
        "texts_per_request": options.texts_per_request,
        "processes": options.processes,
        "max_connections": options.max_connections if options.rate is not None else None,
        "seed": options.seed,
    }


def _command() -> str:
    flags = sys.argv[1:]
    # Under the `ridgeline` command the first word is this very subcommand.
    return shlex.join(["ridgeline", "bench", *(flags[1:] if flags[:1] == ["bench"] else flags)])


class _Meter:
    """The server's counters and this process's CPU time, read when the measurement begins and when all is answered."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._before: server_figures.Counters | None = None
        self._cpu_before = time.process_time()
        self.command_cpu_s = 0.0

    def begin(self) -> None:
        self._before = server_figures.read_counters(self._target)
        self._cpu_before = time.process_time()

    def end(self) -> dict[str, Any] | None:
        self.command_cpu_s = time.process_time() - self._cpu_before
        after = server_figures.read_counters(self._target)
        figures = server_figures.figures_between(self._before, after)
        return None if figures is None else {**figures, "peaks": server_figures.read_peaks(self._target)}
