"""`ridgeline serve`: flags and variables to a ServerConfig, and what a person is told at the start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from ridgeline_server.config import LogFormat, ModelSettings, Overlong, ServerConfig

if TYPE_CHECKING:
    from ridgeline_server.request import ModelInfo
    from ridgeline_server.running import Started

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_DEFAULTS = ServerConfig(bundles=())


def _option(variable: str, help_text: str, **settings: Any) -> Any:
    """An option that `RIDGELINE_<variable>` can set too."""
    return typer.Option(envvar=f"RIDGELINE_{variable}", show_envvar=False, help=help_text, **settings)


Bundles = Annotated[
    list[Path] | None, typer.Argument(metavar="[BUNDLE]...", help="Directories that `ridgeline export` made.")
]
Host = Annotated[str, _option("HOST", "Address to listen on.")]
Port = Annotated[int, _option("PORT", "Port to listen on; 0 takes a free one.", min=0, max=65535)]
Devices = Annotated[
    str,
    _option(
        "DEVICES",
        "auto (all GPUs that can be used, else the CPU), or a replica each: cpu:0,cpu:1 (each on its own cores), "
        "cuda:0,cuda:1; cuda:0,cuda:0 puts two on one GPU.",
    ),
]
RuntimeName = Annotated[
    str, _option("RUNTIME", "auto, openvino (CPU), onnxruntime (CPU, GPU), tensorrt (GPU) or triton (GPU, packed).")
]
VariantName = Annotated[
    str,
    _option(
        "VARIANT",
        "auto (the first that passed its gate: on CPUs fast at it int8, on GPUs packed-fp16 or fp16; else fp32), or a "
        "name.",
    ),
]
WhenOverlong = Annotated[Overlong, _option("OVERLONG", "What happens to inputs over the model's maximum.")]
MaxBatchTokens = Annotated[
    int | None,
    _option(
        "MAX_BATCH_TOKENS",
        "Tokens that a batch may execute, padding included: more for throughput, less for latency.",
        min=1,
        show_default="chosen per runtime; 16384 on GPUs",
    ),
]
MaxClientBatchSize = Annotated[int, _option("MAX_CLIENT_BATCH_SIZE", "Texts that one request may hold.", min=1)]
MaxBodyBytes = Annotated[int, _option("MAX_BODY_BYTES", "Size of a request's body, else 413.", min=1)]
MaxQueueTokens = Annotated[
    int, _option("MAX_QUEUE_TOKENS", "Tokens that may wait before requests are refused with 429.", min=1)
]
MaxQueueBytes = Annotated[
    int, _option("MAX_QUEUE_BYTES", "Bytes of unanswered bodies before requests are refused with 429.", min=1)
]
MaxRequestTokens = Annotated[int, _option("MAX_REQUEST_TOKENS", "Tokens that one request may hold, else 413.", min=1)]
MaxAnswerBytes = Annotated[
    int,
    _option(
        "MAX_ANSWER_BYTES",
        "Bytes that one answer may hold that tells of each token or term, before it is written as JSON, else 413.",
        min=1,
    ),
]
MaxQueue = Annotated[
    float,
    _option(
        "MAX_QUEUE_S",
        "Seconds of work that may wait, at the measured rate, before requests are refused with 429; 256 requests "
        "may whatever they take, unless they would miss their deadline.",
        min=0,
    ),
]
MaxAge = Annotated[
    float,
    _option(
        "MAX_AGE_S", "Seconds for which texts of a better-filled length may go first; then the oldest leads.", min=0
    ),
]
RequestTimeout = Annotated[
    float,
    _option(
        "REQUEST_TIMEOUT_S", "Seconds after which a request without X-Request-Timeout gets 504.", min=0.001, max=86_400
    ),
]
DrainTimeout = Annotated[
    float,
    _option("DRAIN_TIMEOUT_S", "Seconds that a stopping server gives to requests that it has accepted.", min=0),
]
Tuned = Annotated[
    bool,
    _option(
        "TUNED", "Use what `ridgeline tune` found, when none of --variant, --runtime, --max-batch-tokens is given."
    ),
]

ApiKeys = Annotated[
    Path | None,
    _option(
        "API_KEYS",
        "File of the keys that clients need, on every route but /health; `ridgeline keys add` writes it. One key can "
        "also be in the variable RIDGELINE_API_KEY, and an admin's in RIDGELINE_ADMIN_KEY.",
        metavar="FILE",
        show_default="no keys",
    ),
]
CorsOrigins = Annotated[
    str,
    _option(
        "CORS_ORIGINS",
        "Origins whose pages browsers may let ask, such as https://app.example.com, separated by commas; * = any.",
        show_default="none",
    ),
]
TlsCert = Annotated[
    Path | None,
    _option("TLS_CERT", "Certificate of the server and its chain, PEM: HTTPS.", metavar="FILE", show_default="HTTP"),
]
TlsKey = Annotated[
    Path | None,
    _option("TLS_KEY", "Its key, PEM, unencrypted.", metavar="FILE", show_default="in the certificate's file"),
]
TlsClientCa = Annotated[
    Path | None,
    _option(
        "TLS_CLIENT_CA",
        "CA of clients, PEM: only those with a certificate of it may connect.",
        metavar="FILE",
        show_default="any client",
    ),
]
CacheBytes = Annotated[
    int,
    _option(
        "CACHE_BYTES",
        "Keep answers in so many bytes of memory, and answer the same inputs from there; the least recently used go "
        "first.",
        min=0,
        show_default="0: none are kept",
    ),
]
OtlpEndpoint = Annotated[
    str | None,
    _option(
        "OTLP_ENDPOINT",
        "Send traces there, by OpenTelemetry's OTLP over HTTP, such as to http://localhost:4318.",
        metavar="URL",
        show_default="no traces",
    ),
]
TraceRatio = Annotated[
    float,
    _option(
        "TRACE_RATIO",
        "Share of the requests that are traced; those that come with a `traceparent` do as it says.",
        min=0,
        max=1,
    ),
]
LogFormatName = Annotated[
    LogFormat, _option("LOG_FORMAT", "text, or json: a JSON object a line on stderr, one for each request too.")
]
LogTexts = Annotated[
    bool, _option("LOG_TEXTS", "Let JSON logs hold the first 2000 bytes of bodies, and exceptions whole.")
]
ModelsFile = Annotated[
    Path | None,
    _option(
        "MODELS",
        "TOML file of models beside the bundles, each with devices, cores and limits of its own: docs/models.md.",
        metavar="FILE",
        show_default="none",
    ),
]
ModelRepository = Annotated[
    Path | None,
    _option(
        "MODEL_REPOSITORY",
        "Let admins load the bundles of this directory while the server runs, replace served models, and unload them.",
        metavar="DIR",
        show_default="they may not",
    ),
]
GrpcPort = Annotated[
    int | None,
    _option(
        "GRPC_PORT",
        "Serve the Open Inference Protocol over gRPC on this port too; 0 takes a free one.",
        min=0,
        max=65535,
        show_default="not served",
    ),
]


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
