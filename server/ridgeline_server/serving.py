"""`ridgeline serve`: flags and variables to a ServerConfig, and what a person is told at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from ridgeline_server.config import LogFormat, ModelSettings, ServerConfig
from ridgeline_server.serve_options import (
    ApiKeys,
    Bundles,
    CacheBytes,
    CorsOrigins,
    Devices,
    DrainTimeout,
    GrpcPort,
    Host,
    LogFormatName,
    LogTexts,
    MaxAge,
    MaxAnswerBytes,
    MaxBatchTokens,
    MaxBodyBytes,
    MaxClientBatchSize,
    MaxQueue,
    MaxQueueBytes,
    MaxQueueTokens,
    MaxRequestTokens,
    ModelRepository,
    ModelsFile,
    OtlpEndpoint,
    Port,
    RequestTimeout,
    RuntimeName,
    TlsCert,
    TlsClientCa,
    TlsKey,
    TraceRatio,
    Tuned,
    VariantName,
    WhenOverlong,
)

if TYPE_CHECKING:
    from ridgeline_server.request import ModelInfo
    from ridgeline_server.running import Started

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_DEFAULTS = ServerConfig(bundles=())


@app.command()
def serve(
    bundles: Bundles = None,
    models: ModelsFile = None,
    model_repository: ModelRepository = _DEFAULTS.model_repository,
    host: Host = _DEFAULTS.host,
    port: Port = _DEFAULTS.port,
    devices: Devices = _DEFAULTS.devices,
    runtime: RuntimeName = _DEFAULTS.runtime,
    variant: VariantName = _DEFAULTS.variant,
    overlong: WhenOverlong = _DEFAULTS.overlong,
    max_batch_tokens: MaxBatchTokens = _DEFAULTS.max_batch_tokens,
    max_client_batch_size: MaxClientBatchSize = _DEFAULTS.max_client_batch_size,
    max_body_bytes: MaxBodyBytes = _DEFAULTS.max_body_bytes,
    max_queue_tokens: MaxQueueTokens = _DEFAULTS.max_queue_tokens,
    max_queue_bytes: MaxQueueBytes = _DEFAULTS.max_queue_bytes,
    max_request_tokens: MaxRequestTokens = _DEFAULTS.max_request_tokens,
    max_answer_bytes: MaxAnswerBytes = _DEFAULTS.max_answer_bytes,
    max_queue_s: MaxQueue = _DEFAULTS.max_queue_s,
    max_age_s: MaxAge = _DEFAULTS.max_age_s,
    request_timeout_s: RequestTimeout = _DEFAULTS.request_timeout_s,
    drain_timeout_s: DrainTimeout = _DEFAULTS.drain_timeout_s,
    tuned: Tuned = _DEFAULTS.tuned,
    api_keys: ApiKeys = _DEFAULTS.api_keys,
    cors_origins: CorsOrigins = "",
    tls_cert: TlsCert = _DEFAULTS.tls_cert,
    tls_key: TlsKey = _DEFAULTS.tls_key,
    tls_client_ca: TlsClientCa = _DEFAULTS.tls_client_ca,
    grpc_port: GrpcPort = _DEFAULTS.grpc_port,
    log_format: LogFormatName = _DEFAULTS.log_format,
    log_texts: LogTexts = _DEFAULTS.log_texts,
    cache_bytes: CacheBytes = _DEFAULTS.cache_bytes,
    otlp_endpoint: OtlpEndpoint = _DEFAULTS.otlp_endpoint,
    trace_ratio: TraceRatio = _DEFAULTS.trace_ratio,
) -> None:
    """Serve bundles over HTTP: OpenAI's /v1/embeddings, text-embeddings-inference's /embed, and a cost report.

    Each option can also come from the environment: --max-queue-tokens from RIDGELINE_MAX_QUEUE_TOKENS, and so on.
    """
    if not (bundles or models or model_repository):
        raise typer.BadParameter("name a bundle, a file of --models, or a --model-repository", param_hint="BUNDLE")
    config = ServerConfig(
        bundles=tuple(bundles or ()),
        models=_read_models(models),
        model_repository=model_repository,
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
        max_queue_bytes=max_queue_bytes,
        max_request_tokens=max_request_tokens,
        max_answer_bytes=max_answer_bytes,
        max_queue_s=max_queue_s,
        max_age_s=max_age_s,
        request_timeout_s=request_timeout_s,
        drain_timeout_s=drain_timeout_s,
        tuned=tuned,
        api_keys=api_keys,
        cors_origins=tuple(origin.strip() for origin in cors_origins.split(",") if origin.strip()),
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        grpc_port=grpc_port,
        log_format=log_format,
        log_texts=log_texts,
        cache_bytes=cache_bytes,
        otlp_endpoint=otlp_endpoint,
        trace_ratio=trace_ratio,
    )
    _run(config)


def _read_models(path: Path | None) -> tuple[ModelSettings, ...]:
    if path is None:
        return ()
    from ridgeline_server.errors import StartupError
    from ridgeline_server.models_file import read_models_file

    try:
        return read_models_file(path)
    except StartupError as error:
        _complain(Console(stderr=True), str(error))
        raise typer.Exit(1) from error


def _run(config: ServerConfig) -> None:
    from ridgeline_server.errors import StartupError
    from ridgeline_server.logs import set_up_json, set_up_text

    errors = Console(stderr=True)
    is_json = config.log_format is LogFormat.JSON
    log = set_up_json(config.log_texts) if is_json else None
    if log is None:
        set_up_text(RichHandler(console=errors, show_path=False), config.log_texts)
    try:
        from ridgeline_server.running import run

        run(config, _announce, log)
    except ImportError as error:
        _complain(errors, f"serving needs a package that is missing ({error}); run: pip install 'ridgeline[cpu]'")
        raise typer.Exit(1) from error
    except StartupError as error:
        _complain(errors, str(error))
        raise typer.Exit(1) from error
    finally:
        if log is not None:
            log.close()


def _complain(console: Console, message: str) -> None:
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def _announce(started: Started) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for model, why in zip(started.models, started.why, strict=True):
        variant = model.variant if model.precision in model.variant else f"{model.variant} in {model.precision}"
        console.print(f"{model.name}: {variant} on {model.runtime}, {model.replicas} replica(s). {why}", markup=False)
    also = "" if started.grpc_port is None else f", gRPC on port {started.grpc_port}"
    what_now = "Try:" if started.models else "No model is served yet."
    console.print(f"Ready in {started.seconds:.1f} s at {started.url}{also}. {what_now}", markup=False)
    if not started.models:
        return
    path, body = _example(started.models[0])
    console.print(
        f"  curl {started.url}{path} -H 'Content-Type: application/json' -d '{body}'\n  curl {started.url}/report",
        markup=False,
    )


def _example(model: ModelInfo) -> tuple[str, str]:
    """A path and a body to try a model with."""
    if model.task == "feature-extraction":
        return "/v1/embeddings", json.dumps({"model": model.name, "input": "Hello, ridge."})
    inputs: object = "Hello, ridge."
    if model.task == "question-answering":
        inputs = {"question": "Who says hello?", "context": "The ridge says hello."}
    elif model.task == "fill-mask":
        inputs = f"Hello, {model.mask_token}."
    return f"/tasks/{model.task}", json.dumps({"model": model.name, "inputs": inputs})
