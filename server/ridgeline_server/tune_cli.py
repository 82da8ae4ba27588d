"""`ridgeline tune`: the command, its progress, its table and its plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline_server.runtimes.machine import Machine
    from ridgeline_server.tuning.results import Findings
    from ridgeline_server.tuning.tune import Wish

_STOPPED = 130
_GOALS = ("throughput", "latency")
_WIDTH = 150

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def tune(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Directory that `ridgeline export` made.")],
    goal: Annotated[str, typer.Option(help="throughput, or latency of one text at a time.")] = "throughput",
    min_quality: Annotated[
        float, typer.Option(help="Lowest mean cosine to the fp32 variant that a plan may have, 0 to 1.")
    ] = 0.99,
    texts: Annotated[
        Path | None, typer.Option(help="Texts to time, one a line, best like your own; else Python's docstrings.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option(help="The only variants to try, separated by commas; else all of the bundle.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the plot and the JSON file.")] = Path("ridgeline-tune"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON instead of the table.")] = False,
    budget: Annotated[float, typer.Option(help="Seconds that it may take, about.", min=1)] = 120.0,
) -> None:
    """Find the fastest way to run a bundle on this machine, and keep it for `ridgeline serve`.

    Times plans (variant, runtime, precision, streams, batch tokens), each in a process of its own, and measures the
    quality of each. Best on a machine that does nothing else meanwhile.

    Exit code 0: a plan was kept. 1: none passed, or tuning failed. 2: wrong usage.
    """
    from rich.console import Console

    messages = Console(stderr=True)
    try:
        from ridgeline_server.tuning.errors import TuneError

        try:
            wish = _wish(goal, min_quality, variants, budget)
            _run(bundle, wish, texts, out, as_json, messages)
        except TuneError as error:
            messages.print(f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
    except ImportError as error:
        messages.print(
            f"Error: tuning needs a package that is missing ({error}); run: pip install 'ridgeline[cpu]'",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        messages.print("Stopped; what was kept before is as it was.")
        raise typer.Exit(_STOPPED) from None


def _wish(goal: str, min_quality: float, variants: str | None, budget: float) -> Wish:
    from ridgeline_server.tuning.candidates import Goal
    from ridgeline_server.tuning.errors import TuneUsageError
    from ridgeline_server.tuning.tune import Wish

    if goal not in _GOALS:
        raise TuneUsageError(f"--goal '{goal}' is unknown; allowed: {', '.join(_GOALS)}")
    if not 0 <= min_quality <= 1:
        raise TuneUsageError(f"--min-quality {min_quality:g} is no cosine; give a number from 0 to 1, such as 0.99")
    names = None if variants is None else tuple(dict.fromkeys(name.strip() for name in variants.split(",")))
    return Wish(Goal(goal), min_quality, names, budget)


def _run(path: Path, wish: Wish, texts: Path | None, out: Path, as_json: bool, messages: Console) -> None:
    from ridgeline_server.progress import Progress
    from ridgeline_server.runtimes.machine import this_machine
    from ridgeline_server.tuning import report
    from ridgeline_server.tuning.errors import TuneError, TuneUsageError
    from ridgeline_server.tuning.session import keep, open_bundle, tune_bundle

    bundle = open_bundle(path)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TuneUsageError(f"--out {out} cannot be a directory: {error.strerror or error}") from None
    with Progress(messages, "reading texts") as progress:
        findings = tune_bundle(bundle, wish, texts, progress.step)
    machine = this_machine()
    result = json.dumps(report.as_json(findings, machine, str(path)), indent=2)
    if as_json:
        typer.echo(result)
    else:
        _console().print(report.table(findings))
    _write_files(findings, path.resolve().name, machine, out, result, messages)
    if findings.best is None:
        raise TuneError(
            f"no plan passed, so none was kept; the table says why for each; --min-quality is {wish.min_quality:g}"
        )
    kept = keep(bundle, machine, findings)
    messages.print(
        f"Best: {findings.best.candidate.in_words}: {findings.reason}.\n"
        f"Kept in {kept}: `ridgeline serve {path}` uses it from now on.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _write_files(findings: Findings, name: str, machine: Machine, out: Path, result: str, messages: Console) -> None:
    """The JSON file and the plot, named by bundle and goal: a later run of the same replaces them."""
    from ridgeline_server.tuning import plot
    from ridgeline_server.tuning.errors import TuneError

    stem = f"{name}-{findings.goal.value}"
    title = f"Plans for {name}: speed against quality"
    try:
        (out / f"{stem}.json").write_text(result + "\n", encoding="utf-8")
        files = f"{out / stem}.json"
        try:
            plot.draw(findings, title, f"{machine.cpu}, {machine.cores} cores", out / f"{stem}.png")
            files += f" and {out / stem}.png"
        except ImportError:
            files += "; the plot needs matplotlib: pip install 'ridgeline[bench]'"
    except OSError as error:
        raise TuneError(f"cannot write the findings to {out}: {error.strerror or error}") from None
    messages.print(f"Files: {files}", highlight=False, markup=False, soft_wrap=True)


def _console() -> Console:
    """Standard output, wide enough for the table where no terminal says how wide it is."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
