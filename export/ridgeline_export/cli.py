"""`ridgeline export`: the command, its progress and its table."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ridgeline_export.config import DEFAULT_VARIANTS, ExportOptions, parse_variants
from ridgeline_export.errors import ExportError, summary
from ridgeline_export.interrupts import Interrupts

if TYPE_CHECKING:
    from ridgeline_export.bundle import Quality
    from ridgeline_export.export import Outcome, Report

_QUALITY = {
    "mean_cosine": "mean cosine of embeddings to PyTorch's",
    "label_agreement": "share of answers equal to PyTorch's",
    "order_agreement": "share of pairs of texts ranked as PyTorch ranks them",
}

# Of a file, below which what is saved is not worth a line.
_SHARED_SHARE = 0.01

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(name="export")
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model directory, hub id, or 'default' (all-MiniLM-L6-v2).")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make; must not exist yet.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="feature-extraction, text-classification, token-classification, question-answering or fill-mask; "
            "inferred from the model's config when not given."
        ),
    ] = None,
    variants: Annotated[
        str,
        typer.Option(
            help="Variants to make, separated by commas: fp32, fp16 (for GPUs), int8-dynamic, int8; for NVIDIA GPUs "
            "without padding: packed-fp16, packed-bf16, packed-int8, packed-fp8; for comparison packed-fp32."
        ),
    ] = DEFAULT_VARIANTS,
    texts: Annotated[
        Path | None,
        typer.Option(
            help="Text to calibrate and measure on, one a line, at least 100 lines; best is text like your own. "
            "Default: the docstrings of Python's standard library."
        ),
    ] = None,
    min_quality: Annotated[
        float | None,
        typer.Option(
            help="Lowest mean cosine or label agreement of a variant but fp32 and packed-fp32. "
            "Default: 0.99; fp16, packed-fp16: 0.999."
        ),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hugging Face hub.")] = None,
) -> None:
    """Turn a Hugging Face model into a bundle that `ridgeline serve` runs.

    Every variant is measured against PyTorch on text that it was not calibrated on, and kept only when it passes its
    gate. OUT appears when it is complete, or not at all.

    Exit code: 0 when every variant passed; 1 when one did not (OUT then holds those that passed) or the export failed;
    2 for wrong usage.
    """
    errors = Console(stderr=True, soft_wrap=True)
    interrupts = Interrupts()
    try:
        chosen = parse_variants(variants, min_quality)
        options = ExportOptions(model=model, out=out, variants=chosen, task=task, revision=revision, texts=texts)
        with interrupts:
            report = _run(options, errors, interrupts)
    except (Exception, KeyboardInterrupt) as error:
        sentence, code = _explain(error, interrupts)
        errors.print(sentence, markup=False, highlight=False)
        raise typer.Exit(code) from None
    _show(report, out, errors)
    if any(outcome.failure for outcome in report.outcomes):
        raise typer.Exit(1)


def _run(options: ExportOptions, console: Console, interrupts: Interrupts) -> Report:
    from ridgeline_export.export import export as run
    from ridgeline_export.quiet import quiet

    # The progress keeps the real stderr; what libraries write meanwhile goes nowhere.
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False)

    @contextlib.contextmanager
    def step(description: str) -> Iterator[None]:
        interrupts.check()
        task = progress.add_task(description, total=1)
        yield
        interrupts.check()
        progress.update(task, completed=1)

    with progress, quiet():
        return run(options, step)


def _explain(error: BaseException, interrupts: Interrupts) -> tuple[str, int]:
    """The sentence for the user and the exit code."""
    if interrupts.number is not None or isinstance(error, KeyboardInterrupt):
        return "Interrupted; no half bundle is left.", 128 + (interrupts.number or signal.SIGINT)
    if isinstance(error, ExportError):
        return f"Error: {error}", error.exit_code
    return f"Error: unexpected {type(error).__name__}: {summary(error)}; no bundle was written. This is a bug.", 1


def _show(report: Report, out: Path, errors: Console) -> None:
    console = Console()
    manifest = report.manifest
    console.print(
        f"{escape(manifest.model_id)}: {manifest.architecture}, {manifest.task}, {manifest.max_tokens} tokens at most"
        + _pooling(report),
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(report))
    if report.fusion is not None:
        console.print(f"The packed graph has {report.fusion}.", markup=False, highlight=False, soft_wrap=True)
    shared = [outcome for outcome in report.outcomes if outcome.shared_bytes >= _SHARED_SHARE * outcome.size_bytes > 0]
    if shared:
        saved = ", ".join(f"{outcome.shared_bytes / 1e6:.1f} MB of {outcome.name}" for outcome in shared)
        console.print(f"Weights in common are stored once, which saves {saved}.", highlight=False, soft_wrap=True)
    for outcome in report.outcomes:
        if outcome.failure:
            errors.print(f"{outcome.name} was not kept: {outcome.failure}.", markup=False, highlight=False)
    if report.has_bundle:
        console.print(f"Bundle: {out}", markup=False, highlight=False, soft_wrap=True)
    else:
        errors.print("No variant passed; no bundle was written.", highlight=False)


def _pooling(report: Report) -> str:
    manifest = report.manifest
    if manifest.pooling is None:
        return ""
    text = f", {manifest.pooling} pooling, {'normalized' if manifest.normalize else 'not normalized'}"
    return text if report.pooling_declared else text + " (the model declares no pooling: mean is the convention)"


def _table(report: Report) -> Table:
    quality = next((outcome.quality for outcome in report.outcomes if outcome.quality), None)
    caption = (
        f"quality: {_QUALITY[_quality_name(quality)]}; max error: of any output to PyTorch's; "
        f"measured on {quality.texts} held-out texts ({quality.corpus})"
        if quality
        else None
    )
    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    table.add_column("variant", no_wrap=True)
    for name in ("size", "nodes", "max error", "quality", "gate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for outcome in report.outcomes:
        table.add_row(*_row(outcome))
    return table


def _quality_name(quality: Quality) -> str:
    return next(name for name in _QUALITY if name in quality.details)


def _row(outcome: Outcome) -> tuple[str, ...]:
    verdict = "[red]fail[/red]" if outcome.failure else "[green]pass[/green]"
    quality = outcome.quality
    if quality is None:
        return outcome.name, "", "", "", "", "", verdict
    return (
        outcome.name,
        f"{outcome.size_bytes / 1e6:.1f} MB",
        str(outcome.nodes),
        f"{quality.details['max_abs_error']:.1e}",
        f"{quality.details[_quality_name(quality)]:.4f}",
        f"error ≤ {quality.gate:.0e}" if quality.metric == "max_abs_error" else f"≥ {quality.gate:g}",
        verdict,
    )


def main() -> None:
    """Run the command by itself, as `python -m ridgeline_export MODEL OUT`."""
    app(prog_name="ridgeline export")
