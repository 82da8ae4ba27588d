"""`ridgeline bench URL`: load against a server, and what it answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline_bench.fleet import Tick
    from ridgeline_bench.options import Options

_DEFAULT_CONCURRENCY = 32
_STOPPED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    url: Annotated[str, typer.Argument(help="The server, such as http://127.0.0.1:8000.")],
    rate: Annotated[
        float | None,
        typer.Option(help="Open loop: requests per second, at random instants whatever the server does."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(help="Closed loop: connections that send one request after the other; 32 when neither is given."),
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds that are measured.")] = 20.0,
    warmup: Annotated[float, typer.Option(help="Seconds of load before that.")] = 2.0,
    texts: Annotated[
        Path | None, typer.Option(help="One text a line; else the docstrings of Python's standard library.")
    ] = None,
    texts_per_request: Annotated[int, typer.Option(help="Texts in each request.")] = 1,
    path: Annotated[str | None, typer.Option(help="/v1/embeddings (the default) or /embed.")] = None,
    model: Annotated[str | None, typer.Option(help="Model to ask for; else the first that /v1/models lists.")] = None,
    processes: Annotated[int, typer.Option(help="Processes that make the load; one is enough for most servers.")] = 1,
    timeout: Annotated[float, typer.Option(help="Seconds after which a request has failed.")] = 30.0,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds that each request gives the server, in X-Request-Timeout; else none.")
    ] = None,
    max_connections: Annotated[int, typer.Option(help="Open loop: connections open at once, at most.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of the texts' order and the random arrivals.")] = 0,
    out: Annotated[Path, typer.Option(help="Directory for the JSON file and the plot.")] = Path("ridgeline-bench"),
    plot: Annotated[bool, typer.Option(help="Draw the plot; it costs more CPU time than a short run.")] = True,
) -> None:
    """Measure throughput and latency of an embeddings server.

    Exit code 0: the run is done. 1: it failed, or no request succeeded. 2: wrong usage.
    """
    from rich.console import Console

    from ridgeline_bench.errors import BenchError
    from ridgeline_bench.options import Options

    options = Options(
        url=url,
        rate=rate,
        concurrency=_DEFAULT_CONCURRENCY if rate is None and concurrency is None else concurrency,
        duration_s=duration,
        warmup_s=warmup,
        texts=texts,
        texts_per_request=texts_per_request,
        path=path,
        model=model,
        processes=processes,
        timeout_s=timeout,
        request_timeout_s=request_timeout,
        max_connections=max_connections,
        seed=seed,
        out=out,
    )
    messages = Console(stderr=True)
    try:
        succeeded = _run(options, plot, messages)
    except BenchError as error:
        messages.print(f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        messages.print("Stopped before the load began.")
        raise typer.Exit(_STOPPED) from None
    if not succeeded:
        messages.print("Error: no request succeeded; the errors are in the table above.", style="red", soft_wrap=True)
        raise typer.Exit(1)


def _run(options: Options, has_plot: bool, messages: Console) -> bool:
    from rich.console import Console

    from ridgeline_bench import plot, report
    from ridgeline_bench.benchmark import benchmark
    from ridgeline_bench.errors import RunError
    from ridgeline_bench.options import check, writable_directory

    check(options)
    writable_directory(options.out)
    with _Progress(options, messages) as progress:
        result, sample = benchmark(options, progress.say, progress.tick)
    output = Console()
    output.print(report.table(result))
    for sentence in report.warnings(result):
        output.print(f"Note: {sentence}", style="yellow", highlight=False, soft_wrap=True)
    stem = options.out / _file_stem(result)
    try:
        report.write_json(result, stem.with_name(f"{stem.name}.json"))
        if has_plot:
            plot.draw(result, sample, stem.with_name(f"{stem.name}.png"))
        files = f"{stem}.json and {stem.name}.png" if has_plot else f"{stem}.json"
        output.print(f"Files: {files}", highlight=False, soft_wrap=True)
    except OSError as error:
        raise RunError(f"cannot write the results to {options.out}: {error.strerror or error}") from None
    except ImportError:
        output.print(f"File: {stem}.json; the plot needs matplotlib (pip install 'ridgeline[bench]')", soft_wrap=True)
    return bool(result["results"]["succeeded"])


def _file_stem(result: dict[str, Any]) -> str:
    inputs = result["inputs"]
    load = f"rate{inputs['rate_requests_per_s']:g}" if inputs["loop"] == "open" else f"c{inputs['concurrency']}"
    when = result["started"][:19].replace("-", "").replace(":", "").replace("T", "-")
    return f"{inputs['loop']}-{load}-{when}"


class _Progress:
    """A bar over warm-up and measurement, on the terminal's error stream."""

    def __init__(self, options: Options, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._total = options.warmup_s + options.duration_s
        self._warmup_s = options.warmup_s
        self._load = options.load_in_words
        # Drawn twice a second and never by a thread of its own: the server needs the cores.
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total, state="")
        self._last: Tick | None = None

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, step: str) -> None:
        self._bar.update(self._task, description=step, refresh=True)

    def tick(self, tick: Tick) -> None:
        last = self._last
        if last is not None and tick.elapsed_s - last.elapsed_s < 0.5:
            return
        self._last = tick
        rate = 0.0
        if last is not None:
            rate = (tick.replies - last.replies) / (tick.elapsed_s - last.elapsed_s)
        phase = "warm-up" if tick.elapsed_s < self._warmup_s else self._load
        if tick.elapsed_s > self._total:
            phase = "waiting for the last replies"
        state = f"{rate:,.0f} replies/s, {tick.errors:,} errors, {tick.in_flight:,} in flight"
        completed = min(tick.elapsed_s, self._total)
        self._bar.update(self._task, description=phase, completed=completed, state=state, refresh=True)
