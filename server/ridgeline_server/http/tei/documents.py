"""What the OpenAPI document says of each POST route of text-embeddings-inference, and of those that name no task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ridgeline_server.http import openapi
from ridgeline_server.http.errors import Protocol

MODEL = "/models/{name:path}"


@dataclass(frozen=True, slots=True)
class Document:
    """name: the operation's, unique; description: what FastAPI is told of it"""

    path: str
    name: str
    summary: str
    description: dict[str, Any]


# path: summary, request, response
_ROUTES = {
    "/embed": ("Embed texts", "EmbedRequest", "EmbedResponse"),
    "/embed_all": ("A vector for each token of texts", "EmbedAllRequest", "EmbedAllResponse"),
    "/embed_sparse": ("Embed texts sparsely (SPLADE)", "EmbedSparseRequest", "EmbedSparseResponse"),
    "/similarity": ("Compare sentences with one", "SimilarityRequest", "SimilarityResponse"),
    "/predict": ("Classify texts", "PredictRequest", "PredictResponse"),
    "/rerank": ("Rank texts by how well they answer a query", "TeiRerankRequest", "TeiRerankResponse"),
    "/tokenize": ("The tokens of texts", "TokenizeRequest", "TokenizeResponse"),
    "/decode": ("The texts of token ids", "DecodeRequest", "DecodeResponse"),
    "/": ("The model's own task", "PipelineRequest", "PipelineResponse"),
}


def documents() -> Iterator[Document]:
    """All of them, for the first model and for a named one."""
    for path, (summary, request, response) in _ROUTES.items():
        name = path.strip("/") or "run"
        has_raw = path in ("/embed", "/")
        for_first = openapi.inference(Protocol.TEI, request, response, has_raw=has_raw)
        yield Document(path, name, f"{summary}, with the first model", for_first)
        if path == "/":
            yield Document("/invocations", "invoke", "The same as POST /", for_first)
        for_named = openapi.inference(Protocol.TEI, request, response, (openapi.NAME,), has_raw=has_raw)
        yield Document(MODEL + path.rstrip("/"), f"{name}_with", f"{summary}, with a model", for_named)
