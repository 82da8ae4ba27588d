"""The flags of `ridgeline serve`, each of which a variable of the environment can set too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ridgeline_server.config import LogFormat, Overlong


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
