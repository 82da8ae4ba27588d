"""The `ridgeline` command: the subcommands of all components under one name."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

# Subcommand → the light module whose typer application holds it. Heavy imports happen inside the commands.
_COMPONENTS = {
    "export": "ridgeline_export.cli",
    "serve": "ridgeline_server.serving",
    "tune": "ridgeline_server.tune_cli",
    "devices": "ridgeline_server.devices_cli",
    "estimate": "ridgeline_estimate.cli",
    "bench": "ridgeline_bench.cli",
}
# Those that have subcommands of their own: a module, imported when one is asked for, and what --help says.
_GROUPS = {
    "compress": ("ridgeline_export.compress.cli", "Make a Transformer smaller and faster, and measure what that cost."),
    "keys": ("ridgeline_server.keys_cli", "Make API keys for `serve --api-keys`, and list them."),
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


def _late_group(module: str) -> type[TyperGroup]:
    """A group whose commands are those of a module's typer application."""

    class Late(TyperGroup):
        def _group(self) -> Any:
            return typer.main.get_group(import_module(module).app)

        def list_commands(self, ctx: Any) -> list[str]:
            return list(self._group().commands)

        def get_command(self, ctx: Any, name: str) -> Any:
            return self._group().commands.get(name)

    return Late


for _name, _module in _COMPONENTS.items():
    (_command,) = import_module(_module).app.registered_commands
    app.command(_name)(_command.callback)
for _name, (_module, _text) in _GROUPS.items():
    app.add_typer(typer.Typer(cls=_late_group(_module), help=_text, no_args_is_help=True), name=_name)


def main() -> None:
    """Entry point of the `ridgeline` command."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(1)
