"""text-embeddings-inference's `/embed` and `/info`.

As there, fields that it does not know are ignored, `normalize` is on unless switched off, and an absent `truncate`
means the server's default. Statuses follow its OpenAPI document: 400 empty, 413 too many or too long, 422 invalid,
424 the model failed, 429 overloaded, 503 unhealthy.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, Exchange, Headers
from ridgeline_server.http.parsing import (
    Inputs,
    check_dimensions,
    check_token_ids,
    inputs_of,
    json_object,
    optional_bool,
    optional_choice,
    optional_dimensions,
)
from ridgeline_server.http.reply import as_json, as_raw, contiguous
from ridgeline_server.request import ModelInfo, Request

_KEYS = (
    b'"inputs"',
    b'"normalize"',
    b'"truncate"',
    b'"truncation_direction"',
    b'"prompt_name"',
    b'"dimensions"',
)


class TextEmbeddingsInference:
    """Handlers of the text-embeddings-inference routes."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config

    async def embed(self, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /embed` and `POST /models/{name}/embed`."""
        info = self._catalog.find(exchange.params.get("name"))
        fields = json_object(body, _KEYS)
        if "inputs" not in fields:
            raise InvalidInputError("the field `inputs` is missing; give a text or an array of texts", "inputs")
        normalize = optional_bool(fields, "normalize")
        truncate = optional_bool(fields, "truncate")
        if optional_choice(fields, "truncation_direction", ("right", "Right", "left", "Left")) in ("left", "Left"):
            raise InvalidInputError(
                '`truncation_direction` "left" is not supported; give "right", or cut the text yourself',
                "truncation_direction",
            )
        prompt = fields.get("prompt_name")
        if prompt is not None:
            raise InvalidInputError(
                f"`prompt_name` is {quote(prompt)}, and this model has no prompts; put the prompt into the inputs",
                "prompt_name",
            )
        check_dimensions(optional_dimensions(fields), info.dim)
        inputs = inputs_of(fields["inputs"], "inputs", self._config.max_client_batch_size, b"\\u0000" in body)
        if type(inputs[0]) is list:
            check_token_ids(inputs, "inputs", info.vocab_size, self._config.max_request_tokens)
        request = Request(
            info.name,
            inputs,
            truncate,
            exchange.read,
            exchange.deadline,
            True if normalize is None else normalize,
            exchange.priority,
        )
        result = await exchange.submit(self._engine, request)
        rows = contiguous(result.outputs)
        tokens = sum(result.tokens)
        body, headers = as_raw(rows, tokens) if exchange.is_raw else (as_json(rows), [JSON])
        headers += _headers(exchange, inputs, tokens, info)
        return body, headers

    def info(self) -> dict[str, object]:
        """`GET /info`, about the first model."""
        config = self._config
        info = self._catalog.find(None)
        max_batch_tokens = info.max_batch_tokens or config.max_batch_tokens or info.max_tokens
        return {
            "model_id": info.model_id,
            "model_sha": info.revision,
            "model_dtype": info.precision,
            "model_type": {"embedding": {"pooling": info.pooling or "none"}},
            # Admission counts tokens here: so many requests of full length may wait.
            "max_concurrent_requests": max(config.max_queue_tokens // max(info.max_tokens, 1), 1),
            "max_input_length": info.max_tokens,
            "max_batch_tokens": max_batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": config.max_client_batch_size,
            "auto_truncate": config.overlong == "truncate",
            "tokenization_workers": len(os.sched_getaffinity(0)),
            "version": server_version(),
            "sha": None,
            "docker_label": None,
        }


def server_version() -> str:
    """The installed version of the server."""
    try:
        return version("ridgeline")
    except PackageNotFoundError:
        return "0"


def _headers(exchange: Exchange, inputs: Inputs, tokens: int, info: ModelInfo) -> Headers:
    tokenize, queue, compute = exchange.phases or (0.0, 0.0, 0.0)
    total_ms = b"%d" % ((tokenize + queue + compute) * 1e3)
    return [
        (b"x-compute-type", b"cpu+optimized" if info.device == "cpu" else b"gpu+optimized"),
        (b"x-compute-time", total_ms),
        (b"x-compute-characters", b"%d" % sum(map(len, inputs))),
        (b"x-compute-tokens", b"%d" % tokens),
        (b"x-total-time", total_ms),
        (b"x-tokenization-time", b"%d" % (tokenize * 1e3)),
        (b"x-queue-time", b"%d" % (queue * 1e3)),
        (b"x-inference-time", b"%d" % (compute * 1e3)),
    ]
