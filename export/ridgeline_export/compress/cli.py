"""`ridgeline compress`: its subcommands, made from the methods' configs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ridgeline_export.compress.method import Method, methods
from ridgeline_export.compress.options import (
    choose,
    family_command,
    make_config,
    make_data,
    make_report_settings,
    report_command,
)
from ridgeline_export.compress.rundir import REPORT
from ridgeline_export.errors import ExportError, summary
from ridgeline_export.interrupts import Interrupts

if TYPE_CHECKING:
    from ridgeline_export.compress.progress import Progress

FAMILIES = {
    "prune": "Take weights out: heads and channels, layers, rows of the vocabulary, or single weights.",
    "distill": "Train a smaller student to answer as its teacher does; plain text is enough.",
    "share": "Let layers share their weights, or store the word embeddings as a product of two small tables.",
    "attention": "Replace exact attention by an approximation whose cost grows linearly with the text.",
    "recover": "Train a model on labels, on a teacher's answers, or on masked words.",
}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a Transformer smaller and faster, and measure what that cost.",
)


@dataclass(slots=True)
class Ending:
    """What a command says when it does not come to its end, as it is at the time.

    interrupted: of an interruption
    kept:        what there is all the same, and how to go on from it; said after an error too
    """

    interrupted: str = "Interrupted."
    kept: str | None = None


@contextmanager
def spoken_errors(ending: Ending | None = None) -> Iterator[Progress]:
    """Run a command's work with progress on stderr; errors become a sentence and an exit code."""
    from rich.console import Console

    from ridgeline_export.compress.terminal import TerminalProgress
    from ridgeline_export.quiet import quiet

    # Named, since what libraries write to sys.stderr goes nowhere meanwhile.
    errors = Console(file=sys.stderr, soft_wrap=True)
    interrupts = Interrupts()
    try:
        # The progress keeps the real stderr; what libraries write meanwhile goes nowhere.
        with interrupts, TerminalProgress(errors, interrupts) as progress, quiet():
            yield progress
    except typer.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        ending = ending or Ending()
        sentence, code = _explain(error, interrupts, ending)
        if ending.kept is not None:
            sentence = f"{sentence.rstrip('.')}. {ending.kept}"
        errors.print(sentence, markup=False, highlight=False)
        raise typer.Exit(code) from None


def _explain(error: BaseException, interrupts: Interrupts, ending: Ending) -> tuple[str, int]:
    if interrupts.number is not None or isinstance(error, KeyboardInterrupt):
        return ending.interrupted, 128 + (interrupts.number or signal.SIGINT)
    if isinstance(error, ExportError):
        return f"Error: {error}", error.exit_code
    if isinstance(error, ModuleNotFoundError):
        return f"Error: {error.name} is not installed; run: pip install 'ridgeline[export,compress,cpu]'", 1
    return f"Error: unexpected {type(error).__name__}: {summary(error)}. This is a bug.", 1


def _runner(family: Sequence[Method]) -> Callable[[dict[str, Any]], None]:
    def run(values: dict[str, Any]) -> None:
        from ridgeline_export.compress.report.report import command_of, write_report
        from ridgeline_export.compress.run import Request, compress

        ending = Ending("Interrupted; the same command goes on from the last checkpoint.")
        with spoken_errors(ending) as progress:
            method = choose(family, values.get("method"), f"compress {family[0].family}")
            request = Request(
                config=make_config(method, family, values),
                model=values["model"],
                out=values["out"],
                data=make_data(values),
                task=values.get("task"),
                revision=values.get("revision"),
                fresh=values.get("fresh", False),
            )
            outcome = compress(request, progress)
            model, out, data, revision = request.model, request.out, request.data, request.revision
            again = command_of(model, out, out / REPORT, data, revision=revision)
            ending.interrupted, ending.kept = "Interrupted.", f"The model is in {out}; measure it with: {again}"
            progress.say(outcome.summary)
            if values.get("report", True):
                progress.say(write_report(model, out, out / REPORT, data, progress, revision=revision))
        typer.echo(f"Model: {values['out']}")

    return run


def _report(values: dict[str, Any]) -> None:
    from ridgeline_export.compress.report.report import write_report

    with spoken_errors() as progress:
        out = values.get("out", values["model"] / REPORT)
        settings = make_report_settings(values)
        data, revision = make_data(values), values.get("revision")
        progress.say(write_report(values["against"], values["model"], out, data, progress, settings, revision))
    typer.echo(f"Report: {out}")


def _add_families() -> None:
    for name, text in FAMILIES.items():
        family = [method for method in methods() if method.family == name]
        command = family_command(family, _runner(family))
        app.command(name, help=text)(command)


_add_families()
app.command("report", help="Measure size, speed and quality of a model beside the one that it was made from.")(
    report_command(_report)
)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a recipe that ships.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory for every step's result.")],
    model: Annotated[str | None, typer.Option(help="Model to begin with, in place of the recipe's.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the steps that OUT holds already.")] = False,
) -> None:
    """Run the steps of a recipe; what is done stays done when the same command is run again."""
    with spoken_errors(Ending("Interrupted; the same command goes on with the step that it was at.")) as progress:
        from ridgeline_export.compress.recipe.recipe import read_recipe
        from ridgeline_export.compress.recipe.run import run_recipe

        run_recipe(read_recipe(recipe, out, model), out, progress, fresh=fresh)
    typer.echo(f"Result: {out}")


@app.command()
def compare(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Compressed models or their reports.")],
    out: Annotated[Path, typer.Option(help="Directory for the table and the plot.")] = Path("ridgeline-compare"),
) -> None:
    """Put any number of compressions into one table and one plot of speed against quality."""
    with spoken_errors() as progress:
        from ridgeline_export.compress.report.compare import compare_reports

        progress.say(compare_reports(directories, out))
