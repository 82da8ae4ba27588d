"""`/predict` and `/rerank`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import write_json
from ridgeline_server.http.errors import quote
from ridgeline_server.http.exchange import JSON, Exchange
from ridgeline_server.http.parsing import check_count, checked_texts, json_object, optional_bool
from ridgeline_server.http.tei.fields import read_text, read_texts, read_truncation, required
from ridgeline_server.http.tei.handlers import NUL, Answer, Handlers
from ridgeline_server.http.tei.kinds import check_classifies, check_reranks
from ridgeline_server.http.tei.works import work_of
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.inputs import Query

_PREDICT_KEYS = (b'"inputs"', b'"truncate"', b'"truncation_direction"', b'"raw_scores"')
_RERANK_KEYS = (b'"query"', b'"texts"', b'"truncate"', b'"truncation_direction"', b'"raw_scores"', b'"return_text"')
_SHAPES = 'give a text, a pair ["…", "…"], or an array of [text] and [text, text]'

# A text, or two that are read together.
Sequence = str | tuple[str, str]


class Classes(Handlers):
    """Handlers of models that classify."""

    def predict(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /predict`: every class and its score, the highest first; a list of such for an array of inputs."""
        return self.predict_fields(exchange, self.model(exchange), json_object(body, _PREDICT_KEYS), NUL in body)

    async def predict_fields(
        self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool
    ) -> Answer:
        """As `predict`, of a parsed body."""
        check_classifies(info)
        value = required(fields, "inputs", "a text, a pair of texts, or an array of such")
        truncation = read_truncation(fields)
        raw_scores = optional_bool(fields, "raw_scores") is True
        inputs, is_single = _sequences(value, self._config.max_client_batch_size, has_nul)
        work = work_of("text-classification", info, inputs, truncation, raw_scores=raw_scores)
        characters = sum(len(entry) if type(entry) is str else sum(map(len, entry)) for entry in inputs)
        answers, headers = await self.ask(exchange, info, work, characters)
        return await write_json(exchange, answers[0] if is_single else answers), [JSON, *headers]

    def rerank(self, exchange: Exchange, body: bytes) -> Awaitable[Answer]:
        """`POST /rerank`: every text's index and score, the best first."""
        return self.rerank_fields(exchange, self.model(exchange), json_object(body, _RERANK_KEYS), NUL in body)

    async def rerank_fields(self, exchange: Exchange, info: ModelInfo, fields: dict[str, Any], has_nul: bool) -> Answer:
        """As `rerank`, of a parsed body."""
        check_reranks(info)
        query = read_text(fields, "query", has_nul)
        texts = tuple(read_texts(fields, "texts", self._config.max_client_batch_size, has_nul))
        truncation = read_truncation(fields)
        raw_scores = optional_bool(fields, "raw_scores") is True
        with_texts = optional_bool(fields, "return_text") is True
        work = work_of("text-ranking", info, Query(query, texts), truncation, raw_scores=raw_scores)
        characters = len(query) * len(texts) + sum(map(len, texts))
        answers, headers = await self.ask(exchange, info, work, characters)
        ranks = [
            {"index": rank.index, "text": texts[rank.index], "score": rank.score}
            if with_texts
            else {"index": rank.index, "score": rank.score}
            for rank in answers[0]
        ]
        return await write_json(exchange, ranks), [JSON, *headers]


def _sequences(value: object, most: int, has_nul: bool) -> tuple[list[Sequence], bool]:
    """Texts and pairs, and whether there is one that stands by itself: ["a", "b"] is a pair, and ["a"] a text.

    Raises: InvalidInputError
    """
    if type(value) is not list:
        return [_sequence([value], "inputs", has_nul)], True
    if value and type(value[0]) is not list:
        return [_sequence(value, "inputs", has_nul)], True
    check_count(value, "inputs", most)
    return [_sequence(entry, f"inputs[{index}]", has_nul) for index, entry in enumerate(value)], False


def _sequence(entry: object, name: str, has_nul: bool) -> Sequence:
    if type(entry) is not list:
        raise InvalidInputError(f"`{name}` is {quote(entry)}; {_SHAPES}", "inputs")
    misfit = next((part for part in entry if type(part) is not str), None)
    if misfit is not None or None in entry:
        raise InvalidInputError(f"`{name}` holds {quote(misfit)}; {_SHAPES}", "inputs")
    if not 1 <= len(entry) <= 2:
        raise InvalidInputError(f"`{name}` is an array of {len(entry)} texts; {_SHAPES}", "inputs")
    checked_texts(entry, name, has_nul)
    return entry[0] if len(entry) == 1 else (entry[0], entry[1])
