"""`ridgeline keys`: makes API keys, and keeps their hashes in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

File = Annotated[
    Path,
    typer.Option(
        "--file",
        envvar="RIDGELINE_API_KEYS",
        show_envvar=False,
        help="The file of keys, as `serve --api-keys` reads it.",
    ),
]
_FILE = Path("keys.toml")


def _limit(flag: str, help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(flag, min=1, help=help_text, show_default="no limit")
    return option


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is, as metrics and logs call it.")],
    file: File = _FILE,
    admin: Annotated[bool, typer.Option("--admin", help="It may use the routes that change the server.")] = False,
    requests_per_minute: Annotated[int | None, _limit("--requests-per-minute", "Requests that it may make.")] = None,
    tokens_per_minute: Annotated[int | None, _limit("--tokens-per-minute", "Tokens of models that it may use.")] = None,
    tokens_per_day: Annotated[int | None, _limit("--tokens-per-day", "The same, for a day of UTC.")] = None,
) -> None:
    """Make a key, print it once, and add its SHA-256 to the file; a server takes it up at SIGHUP.

    Exit code 0: made. 1: the name is taken, or the file cannot be used.
    """
    from ridgeline_server.security.key_file import add_key
    from ridgeline_server.security.keys import KeyFileError, Limits

    try:
        secret = add_key(file, name, admin, Limits(requests_per_minute, tokens_per_minute, tokens_per_day))
    except KeyFileError as error:
        _complain(error)
    typer.echo(f"Added '{name}' to {file}. This is the key; nothing keeps it:", err=True)
    typer.echo(secret)


@app.command(name="list")
def list_keys(file: File = _FILE) -> None:
    """List the names of the file's keys and what they may use.

    Exit code 0: listed. 1: the file cannot be used.
    """
    from ridgeline_server.security.key_file import read_key_file
    from ridgeline_server.security.keys import KeyFileError, Limits

    try:
        keys = read_key_file(file)
    except KeyFileError as error:
        _complain(error)
    for key in keys:
        limits = {field: getattr(key.limits, field) for field in Limits.__slots__}
        facts = [f"{field}={value}" for field, value in limits.items() if value is not None]
        typer.echo("  ".join([key.name, *(["admin"] if key.is_admin else []), *facts]))


def _complain(error: Exception) -> NoReturn:
    typer.secho(f"Error: {error}", err=True, fg=typer.colors.RED)
    raise typer.Exit(1)
