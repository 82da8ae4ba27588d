"""What the server was told on its command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path


class Overlong(StrEnum):
    """What happens to inputs over the model's maximum."""

    TRUNCATE = "truncate"
    ERROR = "error"


class LogFormat(StrEnum):
    """What the log is written for."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One model, as a models file or an admin describes it. None = as the server's flags say, see ServerConfig.

    name:   what requests call it
    bundle: its directory
    cores:  CPUs that its replicas share, and no others; None = all that the server may use
    """

    name: str
    bundle: Path
    devices: str | None = None
    cores: tuple[int, ...] | None = None
    runtime: str | None = None
    variant: str | None = None
    overlong: Overlong | None = None
    max_batch_tokens: int | None = None
    max_queue_tokens: int | None = None
    max_request_tokens: int | None = None
    max_queue_s: float | None = None
    max_age_s: float | None = None
    tuned: bool | None = None


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One field per flag of `ridgeline serve`; each can also come from `RIDGELINE_<FLAG>`.

    overlong:               what happens to inputs over the model's maximum, unless a request says
    max_batch_tokens:       tokens that one batch may execute, padding included; None = chosen per runtime
    max_queue_tokens:       tokens that may wait, over all requests, before new ones are refused with 429
    max_queue_bytes:        bytes that the bodies of unanswered requests may hold before new ones are refused with 429
    max_request_tokens:     tokens that one request may hold, summed over its inputs after truncation, else 413
    max_answer_bytes:       bytes that an answer may hold that tells of tokens or terms, as numbers of 4 bytes, else 413
    max_queue_s:            seconds of interactive work that may wait, at the measured rate, before 429
    max_age_s:              how long a request may be overtaken by others
    drain_timeout_s:        how long a stopping server waits for the requests that it has accepted
    tuned:                  use the plan that `ridgeline tune` kept, where flags choose none themselves
    api_keys:               file of the keys that clients must have, see security/keys.py
    cors_origins:           origins whose pages browsers may let ask, "*" = any
    tls_cert, tls_key, tls_client_ca: PEM files; None = no TLS, the key is in `tls_cert`, clients need no certificate
    grpc_port:              port of the Open Inference Protocol over gRPC, None = it is not served
    log_format:             JSON also logs a line for each request
    log_texts:              the log may hold the beginnings of what users send
    cache_bytes:            memory for answers that are kept, 0 = none are
    otlp_endpoint:          URL that traces are sent to by OTLP over HTTP, None = there are none
    trace_ratio:            share of the requests that are traced, where their senders do not say
    models:                 models beside the bundles, with settings of their own
    model_repository:       directory of the bundles that admins may load while the server runs, None = they may not
    cores:                  of one model's configuration, see ModelSettings
    """

    bundles: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    devices: str = "auto"
    runtime: str = "auto"
    variant: str = "auto"
    overlong: Overlong = Overlong.TRUNCATE
    max_batch_tokens: int | None = None
    max_client_batch_size: int = 2048
    max_body_bytes: int = 4 * 1024 * 1024
    max_queue_tokens: int = 524_288
    max_queue_bytes: int = 256 * 1024 * 1024
    max_request_tokens: int = 524_288
    max_answer_bytes: int = 256 * 1024 * 1024
    max_queue_s: float = 1.0
    max_age_s: float = 0.075
    request_timeout_s: float = 60.0
    drain_timeout_s: float = 25.0
    tuned: bool = True
    api_keys: Path | None = None
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    grpc_port: int | None = None
    log_format: LogFormat = LogFormat.TEXT
    log_texts: bool = False
    cache_bytes: int = 0
    otlp_endpoint: str | None = None
    trace_ratio: float = 1.0
    models: tuple[ModelSettings, ...] = ()
    model_repository: Path | None = None
    cores: tuple[int, ...] | None = None


def settings_of(config: ServerConfig) -> list[ModelSettings]:
    """All models that the configuration names, the bundles of the command line first, each by its directory's name."""
    return [*(ModelSettings(path.resolve().name, path) for path in config.bundles), *config.models]


def config_of(config: ServerConfig, model: ModelSettings, others: Sequence[ModelSettings] = ()) -> ServerConfig:
    """The configuration that one model is served by.

    others: models that are served beside it
    """
    own = {field.name: getattr(model, field.name) for field in fields(model) if field.name not in ("name", "bundle")}
    whole = replace(config, **{name: value for name, value in own.items() if value is not None})
    sharing = [each for each in others if each.cores is None and (each.devices or config.devices) == whole.devices]
    return replace(whole, bundles=(model.bundle,), models=tuple(sharing))
