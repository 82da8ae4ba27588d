"""The `ridgeline` command: the subcommands of all components under one name."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

# Subcommand → the light module whose typer application holds it. Heavy imports happen inside the commands.
_COMPONENTS = {
    "export": "ridgeline_export.cli",
    "serve": "ridgeline_server.serving",
    "tune": "ridgeline_server.tune_cli",
    "devices": "ridgeline_server.devices_cli",
    "estimate": "ridgeline_estimate.cli",
    "bench": "ridgeline_bench.cli",
}

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ridgeline {version('ridgeline')}")
        raise typer.Exit


@app.callback()
def ridgeline(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve Hugging Face Transformers fast, and report every latency against the FLOPs it should have cost."""


for _name, _module in _COMPONENTS.items():
    (_command,) = import_module(_module).app.registered_commands
    app.command(_name)(_command.callback)


def main() -> None:
    """Entry point of the `ridgeline` command."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(1)
