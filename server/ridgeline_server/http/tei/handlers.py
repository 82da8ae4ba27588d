"""What the handlers of text-embeddings-inference's routes have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.http.asking import ask, beside_loop
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.exchange import Exchange, Headers
from ridgeline_server.http.reply import as_json, check_finite
from ridgeline_server.http.tei.headers import compute_headers
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.base import Work

NUL = b"\\u0000"
Answer = tuple[bytes, Headers]


class Handlers:
    """Handlers that ask an engine for what a task needs."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config

    def model(self, exchange: Exchange) -> ModelInfo:
        """The model that the path names, or the first one. Raises: UnknownModelError, UnavailableError"""
        return self._catalog.find(exchange.params.get("name"))

    async def ask(self, exchange: Exchange, info: ModelInfo, work: Work, characters: int) -> tuple[list[Any], Headers]:
        """A task's answers, and the headers that tell what they took. Raises: a RequestError"""
        answers = await ask(self._engine, exchange, info, work)
        assert exchange.result is not None, "what was answered has a result"
        return answers, compute_headers(exchange, info, characters, sum(exchange.result.tokens))


async def render(exchange: Exchange, answers: Sequence[Any]) -> bytes:
    """An array of answers as JSON, each written by itself: of token states, one holds up others long enough.

    Raises: ExecutionError for a number that is not finite
    """
    assert exchange.result is not None, "what was answered has a result"
    return await beside_loop(sum(exchange.result.tokens), _render, answers)


def _render(answers: Sequence[Any]) -> bytes:
    check_finite(answers)
    return b"[%b]" % b",".join(map(as_json, answers))
