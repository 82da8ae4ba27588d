"""`/v1/rerank` and `/v2/rerank`, as clients of Cohere and of Jina speak them: one answer that both read.

They differ in one default, whether documents come back: Cohere's clients take an answer with them as well, Jina's may
need them. So `/v1/rerank`, which both ask, returns documents unless told not to, and `/v2/rerank`, Cohere's alone, does
not unless told to. Fields that are not known are ignored.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import ask
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, Exchange, Headers
from ridgeline_server.http.parsing import check_count, checked_texts, json_object, optional_bool
from ridgeline_server.http.reply import as_json
from ridgeline_server.http.tei.fields import read_text, required
from ridgeline_server.http.tei.handlers import NUL
from ridgeline_server.http.tei.kinds import RERANKER, check_reranks, kind_of
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.inputs import Query
from ridgeline_server.tasks.registry import TASKS

_KEYS = (
    b'"model"',
    b'"query"',
    b'"documents"',
    b'"top_n"',
    b'"return_documents"',
    b'"max_tokens_per_doc"',
    b'"rank_fields"',
)
# Cohere counts a query with up to so many documents as one search.
_DOCUMENTS_PER_SEARCH = 100
_MOST_RANK_FIELDS = 32


@dataclass(frozen=True, slots=True)
class _Document:
    """shown: what comes back of it; text: what is read"""

    shown: dict[str, Any]
    text: str


class Rerank:
    """Handlers of the reranking routes."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config

    async def v1(self, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /v1/rerank`."""
        return await self._rank(exchange, body, "1", returns_documents=True)

    async def v2(self, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /v2/rerank`."""
        return await self._rank(exchange, body, "2", returns_documents=False)

    async def _rank(
        self, exchange: Exchange, body: bytes, version: str, *, returns_documents: bool
    ) -> tuple[bytes, Headers]:
        fields = json_object(body, _KEYS)
        has_nul = NUL in body
        query = read_text(fields, "query", has_nul)
        documents = self._documents(fields, has_nul)
        top_n = _positive(fields, "top_n")
        most_tokens = _positive(fields, "max_tokens_per_doc")
        is_asked = optional_bool(fields, "return_documents")
        info = self._model(fields)
        texts = [document.text for document in documents]
        if most_tokens is not None:
            texts = await self._cut(exchange, info, texts, most_tokens)
        task = TASKS["text-ranking"]
        work = task.prepare(info, Query(query, tuple(texts)), task.parameters(top_n=top_n))
        answers = await ask(self._engine, exchange, info, work)
        assert exchange.result is not None
        with_documents = returns_documents if is_asked is None else is_asked
        results = [
            {"index": rank.index, "relevance_score": rank.score}
            | ({"document": documents[rank.index].shown} if with_documents else {})
            for rank in answers[0]
        ]
        tokens = sum(exchange.result.tokens)
        reply: dict[str, object] = {
            "id": str(uuid.uuid4()),
            "model": exchange.result.model,
            "results": results,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "meta": {
                "api_version": {"version": version},
                "billed_units": {"search_units": -(-len(documents) // _DOCUMENTS_PER_SEARCH)},
                "tokens": {"input_tokens": tokens, "output_tokens": 0},
            },
        }
        if exchange.wants_cost:
            reply["ridgeline"] = exchange.cost()
        return as_json(reply), [JSON]

    def _model(self, fields: dict[str, Any]) -> ModelInfo:
        """The model that the body names; without a name, the first one that ranks. Raises: a RequestError"""
        name = fields.get("model")
        if name is not None and type(name) is not str:
            raise InvalidInputError(f"`model` is {quote(name)}; name one of GET /v1/models, or leave it out", "model")
        info = self._catalog.find(name)
        if name is None and kind_of(info) != RERANKER:
            info = next((each for each in self._engine.models() if kind_of(each) == RERANKER), info)
        check_reranks(info)
        return info

    def _documents(self, fields: dict[str, Any], has_nul: bool) -> list[_Document]:
        value = required(fields, "documents", 'an array of texts, or of objects {"text": …}')
        if type(value) is not list:
            raise InvalidInputError(f"`documents` is {quote(value)}; give an array of texts", "documents")
        check_count(value, "documents", self._config.max_client_batch_size)
        rank_fields = _rank_fields(fields)
        found = [_document(entry, index, rank_fields) for index, entry in enumerate(value)]
        checked_texts([document.text for document in found], "documents", has_nul)
        return found

    async def _cut(self, exchange: Exchange, info: ModelInfo, texts: list[str], most_tokens: int) -> list[str]:
        """The texts, each cut to so many tokens."""
        # No token is of less than a byte: shorter texts need no tokenizer.
        long = [index for index, text in enumerate(texts) if len(text.encode()) > most_tokens]
        if not long:
            return texts
        candidates = [texts[index] for index in long]
        exchange.model = info.name
        encodings = await self._engine.tokenize(info.name, candidates, special_tokens=False, deadline=exchange.deadline)
        cut = list(texts)
        for index, encoding in zip(long, encodings, strict=True):
            if len(encoding.ids) > most_tokens:
                cut[index] = texts[index][: int(encoding.offsets[:most_tokens].max())] or texts[index][:1]
        return cut


def _document(entry: object, index: int, rank_fields: list[str]) -> _Document:
    if type(entry) is str:
        return _Document({"text": entry}, entry)
    if type(entry) is not dict:
        raise InvalidInputError(
            f'`documents[{index}]` is {quote(entry)}; give a text, or an object {{"text": …}}', "documents"
        )
    parts = [(name, entry[name]) for name in rank_fields if entry.get(name) is not None]
    for name, part in parts:
        if type(part) is not str:
            raise InvalidInputError(f"`documents[{index}].{name}` is {quote(part)}; give a text", "documents")
    if not parts:
        raise InvalidInputError(
            f"`documents[{index}]` has none of the fields {', '.join(map(quote, rank_fields))}; give one, or name "
            "others in `rank_fields`",
            "documents",
        )
    # One field is the text itself; several are told apart by their names, as lines of YAML, as Cohere does.
    text = parts[0][1] if len(rank_fields) == 1 else "\n".join(f"{name}: {part}" for name, part in parts)
    return _Document(entry, text)


def _rank_fields(fields: dict[str, Any]) -> list[str]:
    value = fields.get("rank_fields")
    if value is None:
        return ["text"]
    if type(value) is not list or not value or not all(type(name) is str for name in value):
        raise InvalidInputError(
            f"`rank_fields` is {quote(value)}; give an array of names of fields, or leave it out", "rank_fields"
        )
    # Each is read once, so that what is read of a document is no longer than what was sent.
    if len(value) > _MOST_RANK_FIELDS or len(set(value)) < len(value):
        raise InvalidInputError(
            f"`rank_fields` holds {len(value)} names, {len(set(value))} different ones; give each field once, and at "
            f"most {_MOST_RANK_FIELDS}",
            "rank_fields",
        )
    return value


def _positive(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None or (type(value) is int and value > 0):
        return value
    raise InvalidInputError(f"`{name}` is {quote(value)}; give a whole number above 0, or leave it out", name)
