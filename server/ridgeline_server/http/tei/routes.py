"""The handlers together, and the paths that they stand at."""

from __future__ import annotations

from ridgeline_server.config import ServerConfig
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.routing import Handler
from ridgeline_server.http.tei.classes import Classes
from ridgeline_server.http.tei.embeddings import Embeddings
from ridgeline_server.http.tei.info import describe
from ridgeline_server.http.tei.tokens import Tokens


class TextEmbeddingsInference:
    """All of text-embeddings-inference's routes."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig) -> None:
        self.embeddings = Embeddings(engine, catalog, config)
        self.classes = Classes(engine, catalog, config)
        self.tokens = Tokens(engine, catalog, config)
        self._engine = engine
        self._catalog = catalog
        self._config = config

    def handlers(self) -> dict[str, Handler]:
        """The POST routes by path; each stands under `/models/{name}` too."""
        return {
            "/embed": self.embeddings.embed,
            "/embed_all": self.embeddings.embed_all,
            "/embed_sparse": self.embeddings.embed_sparse,
            "/similarity": self.embeddings.similarity,
            "/predict": self.classes.predict,
            "/rerank": self.classes.rerank,
            "/tokenize": self.tokens.tokenize,
            "/decode": self.tokens.decode,
        }

    def info(self, name: str | None = None) -> dict[str, object]:
        """`GET /info` and `GET /models/{name}/info`. Raises: UnknownModelError, UnavailableError"""
        return describe(self._catalog.find(name), self._config)

    def health(self, name: str) -> dict[str, object]:
        """`GET /models/{name}/health`. Raises: UnknownModelError, UnavailableError when no replica of it can serve"""
        info = self._catalog.find(name)
        self._engine.retry_after(info.name)
        return {"status": "alive"}
