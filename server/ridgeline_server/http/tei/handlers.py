"""What the handlers of text-embeddings-inference's routes have in common."""

from __future__ import annotations

from typing import Any

from ridgeline_server.config import ServerConfig
from ridgeline_server.http.asking import ask
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.exchange import Exchange, Headers
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
