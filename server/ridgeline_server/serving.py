"""`ridgeline serve`: flags and variables to a ServerConfig, and what a person is told at the start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from ridgeline_server.config import Overlong, ServerConfig

if TYPE_CHECKING:
    from ridgeline_server.running import Started

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_DEFAULTS = ServerConfig(bundles=())


@app.command()
def serve(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Directories that `ridgeline export` made.")],
    host: Annotated[
        str, typer.Option(envvar="RIDGELINE_HOST", show_envvar=False, help="Address to listen on.")
    ] = _DEFAULTS.host,
    port: Annotated[
        int,
        typer.Option(
            envvar="RIDGELINE_PORT", show_envvar=False, min=0, max=65535, help="Port to listen on; 0 takes a free one."
        ),
    ] = _DEFAULTS.port,
    devices: Annotated[
        str,
        typer.Option(
            envvar="RIDGELINE_DEVICES",
            show_envvar=False,
            help="auto, cpu, or one replica each: cpu:0,cpu:1 (they share the cores evenly).",
        ),
    ] = _DEFAULTS.devices,
    runtime: Annotated[
        str, typer.Option(envvar="RIDGELINE_RUNTIME", show_envvar=False, help="auto, onnxruntime or openvino.")
    ] = _DEFAULTS.runtime,
    variant: Annotated[
        str,
        typer.Option(
            envvar="RIDGELINE_VARIANT",
            show_envvar=False,
            help="auto (int8 when it passed its gate and the CPU is fast at it), or a name.",
        ),
    ] = _DEFAULTS.variant,
    overlong: Annotated[
        Overlong,
        typer.Option(
            envvar="RIDGELINE_OVERLONG", show_envvar=False, help="What happens to inputs over the model's maximum."
        ),
    ] = _DEFAULTS.overlong,
    max_batch_tokens: Annotated[
        int | None,
        typer.Option(
            envvar="RIDGELINE_MAX_BATCH_TOKENS",
            show_envvar=False,
            min=1,
            show_default="chosen per runtime",
            help="Tokens that a batch may execute, padding included: more for throughput, less for latency.",
        ),
    ] = _DEFAULTS.max_batch_tokens,
    max_client_batch_size: Annotated[
        int,
        typer.Option(
            envvar="RIDGELINE_MAX_CLIENT_BATCH_SIZE", show_envvar=False, min=1, help="Texts that one request may hold."
        ),
    ] = _DEFAULTS.max_client_batch_size,
    max_body_bytes: Annotated[
        int,
        typer.Option(
            envvar="RIDGELINE_MAX_BODY_BYTES", show_envvar=False, min=1, help="Size of a request's body, else 413."
        ),
    ] = _DEFAULTS.max_body_bytes,
    max_queue_tokens: Annotated[
        int,
        typer.Option(
            envvar="RIDGELINE_MAX_QUEUE_TOKENS",
            show_envvar=False,
            min=1,
            help="Tokens that may wait before requests are refused with 429.",
        ),
    ] = _DEFAULTS.max_queue_tokens,
    max_age_s: Annotated[
        float,
        typer.Option(
            envvar="RIDGELINE_MAX_AGE_S",
            show_envvar=False,
            min=0,
            help="Seconds for which texts of a better-filled length may go first; then the oldest text leads.",
        ),
    ] = _DEFAULTS.max_age_s,
    request_timeout_s: Annotated[
        float,
        typer.Option(
            envvar="RIDGELINE_REQUEST_TIMEOUT_S",
            show_envvar=False,
            min=0.001,
            help="Seconds after which a request without X-Request-Timeout gets 504.",
        ),
    ] = _DEFAULTS.request_timeout_s,
) -> None:
    """Serve bundles over HTTP: OpenAI's /v1/embeddings, text-embeddings-inference's /embed, and a cost report.

    Each option can also come from the environment: --max-queue-tokens from RIDGELINE_MAX_QUEUE_TOKENS, and so on.
    """
    config = ServerConfig(
        bundles=tuple(bundles),
        host=host,
        port=port,
        devices=devices,
        runtime=runtime,
        variant=variant,
        overlong=overlong,
        max_batch_tokens=max_batch_tokens,
        max_client_batch_size=max_client_batch_size,
        max_body_bytes=max_body_bytes,
        max_queue_tokens=max_queue_tokens,
        max_age_s=max_age_s,
        request_timeout_s=request_timeout_s,
    )
    errors = Console(stderr=True)
    logging.basicConfig(
        level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=errors, show_path=False)]
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    from ridgeline_server.errors import StartupError

    try:
        from ridgeline_server.running import run

        run(config, _announce)
    except ImportError as error:
        _complain(errors, f"serving needs a package that is missing ({error}); run: pip install 'ridgeline[cpu]'")
        raise typer.Exit(1) from error
    except StartupError as error:
        _complain(errors, str(error))
        raise typer.Exit(1) from error


def _complain(console: Console, message: str) -> None:
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def _announce(started: Started) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for model, why in zip(started.models, started.why, strict=True):
        console.print(
            f"{model.name}: {model.variant} on {model.runtime}, {model.replicas} replica(s). {why}", markup=False
        )
    body = f'{{"model": "{started.models[0].name}", "input": "Hello, ridge."}}'
    console.print(f"Ready in {started.seconds:.1f} s at {started.url}. Try:", markup=False)
    console.print(
        f"  curl {started.url}/v1/embeddings -H 'Content-Type: application/json' -d '{body}'\n"
        f"  curl {started.url}/report",
        markup=False,
    )
