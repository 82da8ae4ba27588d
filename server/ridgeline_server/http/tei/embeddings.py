"""`/embed`, `/embed_all`, `/embed_sparse` and `/similarity`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import numpy as np

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import write_json
from ridgeline_server.http.errors import TooManyInputsError, quote
from ridgeline_server.http.exchange import JSON, Exchange
from ridgeline_server.http.parsing import (
    Inputs,
    check_token_ids,
    inputs_of,
    json_object,
    optional_bool,
    optional_dimensions,
    optional_object,
)
from ridgeline_server.http.reply import as_json, as_raw, contiguous
from ridgeline_server.http.tei.fields import (
    read_prompt_name,
    read_text,
    read_texts,
    read_truncation,
    required,
)
from ridgeline_server.http.tei.handlers import NUL, Answer, Handlers
from ridgeline_server.http.tei.headers import compute_headers
from ridgeline_server.http.tei.kinds import check_embeds, check_embeds_sparsely
from ridgeline_server.http.tei.works import work_of
from ridgeline_server.request import ModelInfo, Request
from ridgeline_server.tasks.inputs import Sentences

# What may stand beside the inputs.
EMBED_OPTIONS = ("normalize", "truncate", "truncation_direction", "prompt_name", "dimensions")
_KEYS = tuple(f'"{name}"'.encode() for name in ("inputs", *EMBED_OPTIONS))
_SIMILARITY_KEYS = (b'"inputs"', b'"parameters"', b'"source_sentence"', b'"sentences"')


class Embeddings(Handlers):
    """Handlers of models that embed."""

    def embed(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /embed`: a vector for each input."""
        return self.embed_fields(exchange, self.model(exchange), json_object(body, _KEYS), NUL in body)

    async def embed_fields(self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool) -> Answer:
        """As `embed`, of a parsed body."""
        check_embeds(info)
        if "inputs" not in fields:
            raise InvalidInputError("the field `inputs` is missing; give a text or an array of texts", "inputs")
        normalize = optional_bool(fields, "normalize")
        truncation = read_truncation(fields)
        prompt_name = read_prompt_name(fields)
        dimensions = optional_dimensions(fields)
        inputs = self._inputs(fields, info, has_nul)
        normalize = True if normalize is None else normalize
        if prompt_name is None and dimensions is None and info.default_prompt is None:
            request = Request(
                info.name,
                inputs,
                truncation.truncate,
                exchange.read,
                exchange.deadline,
                normalize,
                exchange.priority,
                truncation.reading,
                version=info.version,
            )
            result = await exchange.submit(self._engine, request)
            rows = contiguous(result.outputs)
            tokens = sum(result.tokens)
            headers = compute_headers(exchange, info, sum(map(len, inputs)), tokens)
        else:
            wanted = {"normalize": normalize, "prompt_name": prompt_name, "dimensions": dimensions}
            work = work_of("feature-extraction", info, inputs, truncation, **wanted)
            answers, headers = await self.ask(exchange, info, work, sum(map(len, inputs)))
            rows = contiguous(np.stack(answers))
            assert exchange.result is not None
            tokens = sum(exchange.result.tokens)
        if exchange.is_raw:
            reply, kind = as_raw(rows, tokens)
            return reply, kind + headers
        return as_json(rows), [JSON, *headers]

    async def embed_all(self, exchange: Exchange, body: bytes) -> Answer:
        """`POST /embed_all`: a vector for each token of each input, special tokens included."""
        info = self.model(exchange)
        check_embeds(info)
        return await self._embed_otherwise(exchange, info, json_object(body, _KEYS), NUL in body, "token-embeddings")

    def embed_sparse(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /embed_sparse`: token ids and their weights for each input."""
        return self.embed_sparse_fields(exchange, self.model(exchange), json_object(body, _KEYS), NUL in body)

    async def embed_sparse_fields(
        self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool
    ) -> Answer:
        """As `embed_sparse`, of a parsed body."""
        check_embeds_sparsely(info)
        return await self._embed_otherwise(exchange, info, fields, has_nul, "sparse-embeddings")

    def similarity(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /similarity`: the cosine of each sentence's vector with the source sentence's."""
        fields = json_object(body, _SIMILARITY_KEYS)
        return self.similarity_fields(exchange, self.model(exchange), fields, NUL in body)

    async def similarity_fields(
        self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool
    ) -> Answer:
        """As `similarity`, of a parsed body."""
        check_embeds(info)
        given = required(fields, "inputs", 'an object {"source_sentence": …, "sentences": …}')
        if type(given) is not dict:
            raise InvalidInputError(
                f'`inputs` is {quote(given)}; give an object {{"source_sentence": …, "sentences": …}}', "inputs"
            )
        parameters = optional_object(fields.get("parameters"), "parameters")
        most = self._config.max_client_batch_size
        source = read_text(given, "source_sentence", has_nul, "inputs.")
        sentences = read_texts(given, "sentences", most, has_nul, "inputs.")
        if len(sentences) + 1 > most:  # the source sentence is embedded too
            raise TooManyInputsError(
                f"`inputs` holds {len(sentences) + 1} sentences, the source among them; one request may hold {most}: "
                "send several requests",
                "inputs.sentences",
            )
        inputs = Sentences(source, tuple(sentences))
        truncation = read_truncation(parameters)
        prompt_name = read_prompt_name(parameters)
        work = work_of("sentence-similarity", info, inputs, truncation, prompt_name=prompt_name)
        answers, headers = await self.ask(exchange, info, work, len(source) + sum(map(len, sentences)))
        return await write_json(exchange, answers[0].tolist()), [JSON, *headers]

    async def _embed_otherwise(
        self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool, task: str
    ) -> Answer:
        required(fields, "inputs", "a text or an array of texts")
        truncation = read_truncation(fields)
        prompt_name = read_prompt_name(fields)
        inputs = self._inputs(fields, info, has_nul)
        work = work_of(task, info, inputs, truncation, prompt_name=prompt_name)
        answers, headers = await self.ask(exchange, info, work, sum(map(len, inputs)))
        return await write_json(exchange, answers), [JSON, *headers]

    def _inputs(self, fields: dict[str, Any], info: ModelInfo, has_nul: bool) -> Inputs:
        inputs = inputs_of(fields["inputs"], "inputs", self._config.max_client_batch_size, has_nul)
        if type(inputs[0]) is list:
            check_token_ids(
                inputs, "inputs", info.vocab_size, info.max_request_tokens or self._config.max_request_tokens
            )
        return inputs
