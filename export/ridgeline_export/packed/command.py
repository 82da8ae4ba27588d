"""`python -m ridgeline_export.packed`: a packed graph alone, without a bundle around it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ridgeline_export.errors import ExportError, disk_full, summary

if TYPE_CHECKING:
    import onnx_ir

    from ridgeline_export.packed.fuse import FusionReport
    from ridgeline_export.packed.torch_model import TorchModel

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class Precision(StrEnum):
    """Of weights and activations."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Codes(StrEnum):
    """Of the weights and inputs of a layer's linears."""

    int8 = "int8"
    fp8 = "fp8"


@app.command()
def packed(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model directory, hub id, or 'default'.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to make; must not exist yet.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="feature-extraction, text-classification, token-classification, question-answering, fill-mask or, "
            "for decoders, text-generation; inferred from the model's config when not given."
        ),
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of weights and activations.")] = Precision.fp32,
    quantize: Annotated[
        Codes | None,
        typer.Option(help="Codes for the linears of the layers, unsmoothed; the rest has --precision."),
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Put bodies in the ops' places, for runtimes that know no functions.")
    ] = False,
    no_weights: Annotated[
        bool,
        typer.Option(
            "--no-weights",
            help="Write shapes and dtypes only; of MODEL nothing but config.json is read. For benchmarks.",
        ),
    ] = False,
) -> None:
    """Write a model's packed graph, docs/packed.md, to OUT/model.onnx, and its weights to OUT/model.onnx.data.

    Nothing is measured or gated here: `ridgeline export` makes bundles. OUT appears when it is complete, or not at all.

    Exit code: 0; 1 when the model cannot be lowered or written; 2 for wrong usage.
    """
    from ridgeline_export.packed.save import save_packed
    from ridgeline_export.quiet import quiet
    from ridgeline_export.write import publish, workspace

    try:
        with quiet(), workspace(out) as directory:
            torch_model = _load(model, task, with_weights=not no_weights)
            program, report = make_graph(torch_model, precision.value, quantize and quantize.value, inline=inline)
            path = save_packed(program, directory, with_weights=not no_weights)
            size_bytes = sum(file.stat().st_size for file in directory.iterdir())
            publish(directory, out)
    except Exception as error:  # libraries have errors of their own
        sentence, code = _explain(error)
        typer.echo(sentence, err=True)
        raise typer.Exit(code) from None
    typer.echo(f"{type(torch_model.model).__name__}, {torch_model.task}: {report.describe()}.")
    weights = "without weights" if no_weights else "with weights"
    typer.echo(f"Packed graph: {out / path.name}, {size_bytes / 1e6:.1f} MB {weights}")


def make_graph(
    torch_model: TorchModel, precision: str, codes: str | None, *, inline: bool
) -> tuple[onnx_ir.Model, FusionReport]:
    """A torch model → its packed graph with bodies, checked, and what was fused.

    precision: "fp32", "fp16" or "bf16"; codes: None, "int8" or "fp8"; inline: bodies in the ops' places
    Raises UnsupportedModelError, ConversionError.
    """
    from ridgeline_export.packed.attach import attach_bodies
    from ridgeline_export.packed.check import check_packed
    from ridgeline_export.packed.fuse import fuse
    from ridgeline_export.packed.inline import inline as put_inline
    from ridgeline_export.packed.lower import lower
    from ridgeline_export.packed.precision import to_precision
    from ridgeline_export.packed.quantize import quantize_linears

    program = lower(torch_model.model, torch_model.task, pooling=torch_model.pooling, normalize=torch_model.normalize)
    report = fuse(program)
    if codes:
        quantize_linears(program, codes)
    to_precision(program, precision)
    check_packed(program)
    if inline:
        put_inline(program)
    else:
        attach_bodies(program)
    return program, report


def _load(model: str, task: str | None, *, with_weights: bool) -> TorchModel:
    from ridgeline_export.packed.torch_model import load_torch_model
    from ridgeline_export.source import find_model

    return load_torch_model(find_model(model), task, with_weights=with_weights)


def _explain(error: Exception) -> tuple[str, int]:
    """The sentence for the user and the exit code."""
    if isinstance(error, ExportError):
        return f"Error: {error}", error.exit_code
    if disk_full(error):
        return "Error: the disk is full; nothing was written.", 1
    return f"Error: unexpected {type(error).__name__}: {summary(error)}; nothing was written. This is a bug.", 1


def main() -> None:
    """Run the command."""
    app(prog_name="python -m ridgeline_export.packed")
