"""OpenAI's `/v1/embeddings` and `/v1/models`.

As servers of this protocol do, fields that it does not know are ignored; wrong values of known ones are refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import ask
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, Exchange, Headers
from ridgeline_server.http.parsing import (
    check_token_ids,
    inputs_of,
    json_object,
    optional_choice,
    optional_dimensions,
)
from ridgeline_server.http.reply import as_base64, as_json, as_raw, contiguous
from ridgeline_server.request import ModelInfo, Request
from ridgeline_server.tasks import embeddings

_KEYS = (b'"input"', b'"model"', b'"encoding_format"', b'"dimensions"', b'"user"')


class OpenAI:
    """Handlers of the OpenAI routes."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        config: ServerConfig,
        tasks_of: Callable[[ModelInfo], list[str]],
    ) -> None:
        """tasks_of: names of the tasks that can be asked of a model, which `/v1/models` tells"""
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._tasks_of = tasks_of

    async def embeddings(self, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /v1/embeddings`."""
        fields = json_object(body, _KEYS)
        if "input" not in fields:
            raise InvalidInputError("the field `input` is missing; give a text or an array of texts", "input")
        model = fields.get("model")
        if type(model) is not str:
            given = quote(model) if "model" in fields else "missing"
            raise InvalidInputError(f"the field `model` is {given}; name one of GET /v1/models", "model")
        is_base64 = optional_choice(fields, "encoding_format", ("float", "base64")) == "base64"
        dimensions = optional_dimensions(fields)
        user = fields.get("user")
        if user is not None and type(user) is not str:
            raise InvalidInputError(f"`user` is {quote(user)}; give a text, or leave it out", "user")
        inputs = inputs_of(fields["input"], "input", self._config.max_client_batch_size, b"\\u0000" in body)
        info = self._catalog.find_able(model, embeddings.TASK.models, "embed texts")
        if type(inputs[0]) is list:
            check_token_ids(
                inputs, "input", info.vocab_size, info.max_request_tokens or self._config.max_request_tokens
            )
        if dimensions is None and info.default_prompt is None:
            request = Request(
                info.name,
                inputs,
                None,
                exchange.read,
                exchange.deadline,
                priority=exchange.priority,
                version=info.version,
            )
            result = await exchange.submit(self._engine, request)
            rows = contiguous(result.outputs)
        else:
            work = embeddings.prepare(info, inputs, embeddings.Parameters(dimensions=dimensions))
            rows = contiguous(np.stack(await ask(self._engine, exchange, info, work)))
            assert exchange.result is not None, "what was answered has a result"
            result = exchange.result
        tokens = sum(result.tokens)
        if exchange.is_raw:
            return as_raw(rows, tokens)
        reply: dict[str, object] = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": as_base64(row) if is_base64 else row}
                for index, row in enumerate(rows)
            ],
            "model": result.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        if exchange.wants_cost:
            reply["ridgeline"] = exchange.cost()
        return as_json(reply), [JSON]

    def models(self) -> dict[str, object]:
        """`GET /v1/models`."""
        return {"object": "list", "data": [self._describe(info) for info in self._engine.models()]}

    def model(self, name: str) -> dict[str, object]:
        """`GET /v1/models/{name}`.

        Raises: UnknownModelError
        """
        return self._describe(self._catalog.find(name))

    def _describe(self, info: ModelInfo) -> dict[str, object]:
        return {
            "id": info.name,
            "object": "model",
            "created": info.created,
            "owned_by": "ridgeline",
            "task": info.task,
            "tasks": self._tasks_of(info),
            "max_tokens": info.max_tokens,
            "dim": info.dim,
        }
