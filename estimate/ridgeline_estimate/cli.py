"""`ridgeline estimate MODEL`: what a model costs before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline_estimate.summary.question import Question

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def estimate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Directory with config.json, a config.json, an .onnx file, a bundle, or 'default'."
        ),
    ],
    batch: Annotated[int | None, typer.Option(help="Sequences, on all devices together; 1 if not given.")] = None,
    seq: Annotated[int | None, typer.Option(help="New tokens of each sequence; 128 if not given.")] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Tokens of each sequence instead, such as 12,50,128 or 30x16,2x512; all but packed graphs pad."
        ),
    ] = None,
    past: Annotated[
        int | None,
        typer.Option(help="Tokens of each that are in the KV cache already; if not given none, in decode as --seq."),
    ] = None,
    target: Annotated[
        int | None, typer.Option(help="Tokens of each in an encoder-decoder's decoder; as many as --seq if not given.")
    ] = None,
    mode: Annotated[
        str, typer.Option(help="forward, prefill (outputs of the last token), decode (one new token each) or train.")
    ] = "forward",
    task: Annotated[
        str | None, typer.Option(help="What the model is for, such as fill-mask; else what the config's class does.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="Graph of a bundle to count; fp32 if not given.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="fp32, tf32, bf16, fp16, fp8, int8 or int4; else the config's own.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="A device with a data sheet, such as h100, or this (as measured); else this if measured."),
    ] = None,
    fused_attention: Annotated[
        bool | None,
        typer.Option(
            "--fused-attention/--plain-attention",
            help="Attention scores stay on the chip, as in PyTorch's SDPA and unless said otherwise, or in memory.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="For --mode train: sgd, momentum, adam, rmsprop, adagrad …; adamw if not given.")
    ] = None,
    data_parallel: Annotated[int, typer.Option(help="Devices that the batch is divided among.")] = 1,
    tensor_parallel: Annotated[int, typer.Option(help="Devices that each layer is divided among.")] = 1,
    zero_stage: Annotated[
        int, typer.Option(help="What data-parallel devices divide too: 1 optimizer, 2 gradients, 3 weights.")
    ] = 0,
    price: Annotated[float | None, typer.Option(help="Dollars per hour of one device.")] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="dtype=fp32,int8 or device=a100,l4 or variant=… or other models: side by side."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="seq=128:8192 or heads=4:32 or dtype=fp32,bf16 …: a plot of how it acts. Give several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Directory for the JSON and the plot; sweeps use ridgeline-estimate.")
    ] = None,
) -> None:
    """Estimate FLOPs, memory, latency and cost of a model from its config or its ONNX graph; nothing is run.

    Exit code 0: done. 1: something given is wrong, or cannot be counted. 2: wrong usage.
    """
    from rich.console import Console

    from ridgeline_estimate.errors import EstimateError
    from ridgeline_estimate.summary.question import Question, parse_lengths

    messages = Console(stderr=True)
    try:
        if lengths is not None and (batch is not None or seq is not None):
            raise EstimateError("--lengths says how many sequences there are and how long; leave --batch and --seq out")
        listed = None if lengths is None else parse_lengths(lengths)
    except EstimateError as error:
        raise _ended(error, messages) from None
    question = Question(
        model=model,
        variant=variant,
        task=task,
        batch=1 if batch is None else batch,
        seq=128 if seq is None else seq,
        lengths=listed,
        past=past,
        target=target,
        mode=mode,
        dtype=dtype,
        device=device,
        fused_attention=fused_attention,
        optimizer=optimizer,
        data_parallel=data_parallel,
        tensor_parallel=tensor_parallel,
        zero_stage=zero_stage,
        price=price,
    )
    try:
        _run(question, compare or [], sweep or [], as_json, out, messages)
    except EstimateError as error:
        raise _ended(error, messages) from None


def _ended(error: Exception, messages: Console) -> typer.Exit:
    """Says what is wrong; to be raised."""
    messages.print(f"Error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _run(
    question: Question, compare: list[str], sweep: list[str], as_json: bool, out: Path | None, messages: Console
) -> None:
    from ridgeline_estimate.errors import EstimateError
    from ridgeline_estimate.summary import commands

    if compare and sweep:
        raise EstimateError("--compare and --sweep answer different questions; give one of them")
    if sweep:
        commands.show_sweeps(question, sweep, as_json, out, messages)
    elif compare:
        commands.show_comparison(question, compare, as_json, out, messages)
    else:
        commands.show(question, as_json, out, messages)
