"""The routes of OpenAI, Cohere and Jina, text-embeddings-inference and operations, as FastAPI is told of them.

Inference is the door's: of it the document alone is told here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from ridgeline_server.http import openapi, operations
from ridgeline_server.http.adding import Responses, add_documented, add_route, json_response
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol
from ridgeline_server.http.openai import OpenAI
from ridgeline_server.http.tei import TextEmbeddingsInference
from ridgeline_server.http.tei.documents import MODEL, documents
from ridgeline_server.http.waiting import WaitingRoom
from ridgeline_server.report import Metrics, Report
from ridgeline_server.report.metrics import CONTENT_TYPE


def add_openai(app: FastAPI, openai: OpenAI) -> None:
    """Add OpenAI's routes."""
    tags = ["OpenAI"]
    add_documented(
        app,
        "/v1/embeddings",
        "embeddings",
        "Embed texts",
        tags,
        openapi.inference(Protocol.OPENAI, "EmbeddingsRequest", "EmbeddingsResponse"),
    )

    async def models() -> Response:
        return json_response(openai.models())

    async def model(request: Request) -> Response:
        return json_response(openai.model(request.path_params["name"]))

    _get(app, "/v1/models", models, "The served models", tags, {200: openapi.success("ModelList", "The models")})
    _get(
        app,
        "/v1/models/{name:path}",
        model,
        "One served model",
        tags,
        {200: openapi.success("Model", "The model"), 404: openapi.failure(404, Protocol.OPENAI)},
        {"parameters": [openapi.NAME]},
    )


def add_rerank(app: FastAPI) -> None:
    """Add Cohere's and Jina's routes."""
    for version, whose in (("v1", "Cohere and Jina"), ("v2", "Cohere")):
        described = openapi.inference(Protocol.RERANK, "RerankRequest", "RerankResponse", has_raw=False)
        summary = f"Rank documents by how well they answer a query, as {whose}"
        add_documented(app, f"/{version}/rerank", f"rerank_{version}", summary, ["Cohere and Jina"], described)


def add_tei(app: FastAPI, tei: TextEmbeddingsInference) -> None:
    """Add text-embeddings-inference's routes."""
    tags = ["Text Embeddings Inference"]

    async def info() -> Response:
        return json_response(tei.info())

    async def info_of(request: Request) -> Response:
        return json_response(tei.info(request.path_params["name"]))

    async def health_of(request: Request) -> Response:
        return json_response(tei.health(request.path_params["name"]))

    unhealthy = openapi.failure(503, Protocol.TEI)
    responses: Responses = {200: openapi.success("Info", "The first model"), 503: unhealthy}
    _get(app, "/info", info, "The first model and the limits", tags, responses)
    missing: Responses = {404: openapi.failure(404, Protocol.TEI), 503: unhealthy}
    extra = {"parameters": [openapi.NAME]}
    responses = {200: openapi.success("Info", "The model"), **missing}
    _get(app, f"{MODEL}/info", info_of, "A model and the limits", tags, responses, extra)
    responses = {200: openapi.success("Health", "It has a live replica"), **missing}
    _get(app, f"{MODEL}/health", health_of, "A model has a live replica", tags, responses, extra)
    for document in documents():  # last: the bare path of a model takes those above too
        add_documented(app, document.path, document.name, document.summary, tags, document.description)


def add_operations(app: FastAPI, engine: Engine, room: WaitingRoom, report: Report, metrics: Metrics) -> None:
    """Add the routes that tell how the server is."""
    tags = ["Operations"]

    async def health() -> Response:
        return json_response(operations.health())

    async def ping() -> Response:
        return json_response(operations.health())

    async def ready() -> Response:
        return json_response(operations.ready(engine, room))

    async def metrics_text() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    async def read_report() -> Response:
        return Response(report.as_json(), media_type="application/json")

    text = {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    is_ready: Responses = {200: openapi.success("Ready", "Ready"), 503: openapi.failure(503, Protocol.PLAIN)}
    _get(app, "/health", health, "The process is alive", tags, {200: openapi.success("Health", "Alive")})
    _get(app, "/ping", ping, "The same, as SageMaker asks", tags, {200: openapi.success("Health", "Alive")})
    _get(app, "/ready", ready, "Every model has a live replica", tags, is_ready)
    _get(app, "/metrics", metrics_text, "Metrics for Prometheus", tags, {200: text})
    _get(app, "/report", read_report, "Latency against FLOPs", tags, {200: openapi.success("Report", "The report")})


def _get(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Any],
    summary: str,
    tags: list[Any],
    responses: Responses,
    extra: dict[str, Any] | None = None,
) -> None:
    add_route(app, "GET", path, endpoint, endpoint.__name__, summary, tags, responses, extra)
