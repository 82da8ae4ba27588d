"""What `ridgeline estimate` does: one estimate, several side by side, or sweeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.summary import comparison, comparison_table, document, sweep, tables
from ridgeline_estimate.summary.ask import answer
from ridgeline_estimate.summary.question import Question

DEFAULT_OUT = Path("ridgeline-estimate")


def show(question: Question, as_json: bool, out: Path | None, messages: Console) -> None:
    """One estimate. Raises EstimateError."""
    found = answer(question)
    result = document.estimate(found)
    if as_json:
        typer.echo(_text(result))
    else:
        console = Console(highlight=False)
        console.print(tables.page(found, console.width))
    if out is not None:
        _files([_write(out, "estimate.json", result)], messages)


def show_comparison(
    question: Question, texts: Sequence[str], as_json: bool, out: Path | None, messages: Console
) -> None:
    """Several side by side. Raises EstimateError."""
    found = comparison.compare(question, texts)
    result = document.comparison(found)
    if as_json:
        typer.echo(_text(result))
    else:
        console = Console(highlight=False)
        console.print(comparison_table.page(found, console.width))
    if out is not None:
        _files([_write(out, "comparison.json", result)], messages)


def show_sweeps(question: Question, texts: Sequence[str], as_json: bool, out: Path | None, messages: Console) -> None:
    """A picture of how factors act. Raises EstimateError."""
    sweep.check_sweeps(texts)
    found = [sweep.run_sweep(question, text) for text in texts]
    result = document.sweeps(question, found)
    if as_json:
        typer.echo(_text(result))
    else:
        console = Console(highlight=False)
        for each in found:
            console.print(comparison_table.sweep_page(each, console.width))
    directory = out or DEFAULT_OUT
    files = [_write(directory, "sweep.json", result)]
    try:
        from ridgeline_estimate.summary import picture

        path = directory / "sweep.png"
        picture.draw(found, picture.title(found), picture.subtitle(question, found), path)
        files.append(path)
    except ImportError:
        messages.print("The plot needs matplotlib: pip install 'ridgeline[bench]'", markup=False, soft_wrap=True)
    except OSError as error:
        raise EstimateError(f"cannot write the plot to {directory}: {error.strerror or error}") from None
    _files(files, messages)


def _write(directory: Path, name: str, result: dict[str, Any]) -> Path:
    path = directory / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(result) + "\n", encoding="utf-8")
    except OSError as error:
        raise EstimateError(f"--out {directory} cannot be written ({error.strerror or error}); name another") from None
    return path


def _files(paths: Sequence[Path], messages: Console) -> None:
    names = " and ".join(str(path) for path in paths)
    messages.print(f"Files: {names}", highlight=False, markup=False, soft_wrap=True)


def _text(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2, ensure_ascii=False)
