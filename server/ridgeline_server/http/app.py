"""Assembles the ASGI application: the door, the protocols' routes, and the document that describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import RequestError
from ridgeline_server.http import openapi, operations
from ridgeline_server.http.admin import ADMIN_SCHEMAS, Admin, Administration, add_admin
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.cors import make_cors
from ridgeline_server.http.door import Door, InferenceRoute, protocol_of
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol, RefusedError, answer, quote
from ridgeline_server.http.guard import Guard, describe_keys
from ridgeline_server.http.ledger import KeyMetrics, Ledger
from ridgeline_server.http.oip.handlers import OpenInference
from ridgeline_server.http.oip.routes import add_open_inference, inference_routes
from ridgeline_server.http.oip.schemas import OIP_SCHEMAS
from ridgeline_server.http.openai import OpenAI
from ridgeline_server.http.pages.routes import add_dashboard
from ridgeline_server.http.pipeline import Pipeline, model_routes
from ridgeline_server.http.rerank import Rerank
from ridgeline_server.http.rerank_schemas import RERANK_SCHEMAS
from ridgeline_server.http.schemas import SCHEMAS, Schema
from ridgeline_server.http.tasks.document import add_tasks
from ridgeline_server.http.tasks.routes import Tasks
from ridgeline_server.http.tasks.schemas import components
from ridgeline_server.http.tei import TextEmbeddingsInference
from ridgeline_server.http.tei.documents import MODEL, documents
from ridgeline_server.http.tei.schemas import TEI_SCHEMAS
from ridgeline_server.http.waiting import WaitingRoom
from ridgeline_server.logs import JsonHandler
from ridgeline_server.report import Metrics, Report
from ridgeline_server.report.metrics import CONTENT_TYPE
from ridgeline_server.security.hosts import is_loopback
from ridgeline_server.security.key_ring import KeyRing
from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.registry import TASKS
from ridgeline_server.version import server_version

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Tracing

Responses = dict[int | str, dict[str, Any]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    engine: Engine,
    config: ServerConfig,
    report: Report,
    metrics: Metrics,
    *,
    lifespan: Lifespan | None = None,
    keys: KeyRing | None = None,
    log: JsonHandler | None = None,
    tasks: Mapping[str, Task] = TASKS,
    tracing: Tracing | None = None,
    administration: Administration | None = None,
) -> Door:
    """The ASGI application that serves `engine`.

    lifespan: async context manager around the server's life, given the FastAPI application
    keys:     those that open it, None = it is open
    log:      takes a line for each request
    tracing:  takes the spans of each request
    tasks:    those of `/tasks`, by name
    administration: what admins may do with models, None = nothing
    """
    app = FastAPI(
        title="Ridgeline",
        description="Inference for Hugging Face Transformers, each latency beside the FLOPs it needed.",
        version=server_version(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestError, _answer_error)
    app.add_exception_handler(Exception, _answer_error)
    metrics.read_at_scrape(engine.models, report.recent_replica_totals)
    report.read_models(engine.models)
    catalog = Catalog(engine)
    own = Tasks(engine, catalog, config, tasks)
    openai = OpenAI(engine, catalog, config, own.of_model)
    tei = TextEmbeddingsInference(engine, catalog, config)
    pipeline = Pipeline(engine, catalog, config, tei)
    rerank = Rerank(engine, catalog, config)
    _add_openai(app, openai)
    _add_rerank(app)
    _add_tei(app, tei)
    add_tasks(app, own, tasks.values())
    room = WaitingRoom()
    _add_operations(app, engine, room, report, metrics)
    add_dashboard(app, engine, room, report.history)
    open_inference = OpenInference(engine, catalog, config)
    add_open_inference(app, open_inference, engine, room)
    add_admin(app, Admin(administration))
    if administration is not None:
        administration.fleet.watch(catalog.forget)
    schemas = SCHEMAS | TEI_SCHEMAS | RERANK_SCHEMAS | OIP_SCHEMAS | ADMIN_SCHEMAS | components(tasks.values())
    app.openapi = cache(partial(_describe, app.openapi, schemas, keys is not None))  # type: ignore[method-assign]
    routes = [
        InferenceRoute("/v1/embeddings", Protocol.OPENAI, openai.embeddings, is_model_in_path=False),
        InferenceRoute("/v1/rerank", Protocol.RERANK, rerank.v1, is_model_in_path=False),
        InferenceRoute("/v2/rerank", Protocol.RERANK, rerank.v2, is_model_in_path=False),
        *model_routes(tei, pipeline),
        *own.routes(),
        *inference_routes(open_inference),
    ]
    # With TLS a name that was rebound has no certificate.
    guard = Guard(keys, make_cors(config.cors_origins), is_loopback(config.host) and config.tls_cert is None)
    key_metrics = None
    if keys is not None:
        key_metrics = KeyMetrics()
        metrics.registry.register(key_metrics)
    ledger = None
    if key_metrics is not None or log is not None or tracing is not None:
        ledger = Ledger(key_metrics, log, config.log_texts, tracing)
    return Door(app, routes, engine, catalog, config, metrics, room, report.history, guard, ledger)


def _describe(make: Callable[[], dict[str, Any]], schemas: Schema, has_keys: bool) -> dict[str, Any]:
    """The document, made when it is first asked for: that takes longer than all else of the application."""
    document = make()
    document.setdefault("components", {})["schemas"] = schemas
    if has_keys:
        describe_keys(document, lambda status, path: openapi.failure(status, protocol_of(path)))
    return document


def _add_openai(app: FastAPI, openai: OpenAI) -> None:
    tags = ["OpenAI"]
    openapi.add_documented(
        app,
        "/v1/embeddings",
        "embeddings",
        "Embed texts",
        tags,
        openapi.inference(Protocol.OPENAI, "EmbeddingsRequest", "EmbeddingsResponse"),
    )

    async def models() -> Response:
        return _json(openai.models())

    async def model(request: Request) -> Response:
        return _json(openai.model(request.path_params["name"]))

    _get(app, "/v1/models", models, "The served models", tags, {200: openapi.success("ModelList", "The models")})
    _get(
        app,
        "/v1/models/{name:path}",
        model,
        "One served model",
        tags,
        {200: openapi.success("Model", "The model"), 404: openapi.failure(404, Protocol.OPENAI)},
        openapi_extra={"parameters": [openapi.NAME]},
    )


def _add_rerank(app: FastAPI) -> None:
    for version, whose in (("v1", "Cohere and Jina"), ("v2", "Cohere")):
        described = openapi.inference(Protocol.RERANK, "RerankRequest", "RerankResponse", has_raw=False)
        summary = f"Rank documents by how well they answer a query, as {whose}"
        openapi.add_documented(app, f"/{version}/rerank", f"rerank_{version}", summary, ["Cohere and Jina"], described)


def _add_tei(app: FastAPI, tei: TextEmbeddingsInference) -> None:
    tags = ["Text Embeddings Inference"]

    async def info() -> Response:
        return _json(tei.info())

    async def info_of(request: Request) -> Response:
        return _json(tei.info(request.path_params["name"]))

    async def health_of(request: Request) -> Response:
        return _json(tei.health(request.path_params["name"]))

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
        openapi.add_documented(app, document.path, document.name, document.summary, tags, document.description)


def _add_operations(app: FastAPI, engine: Engine, room: WaitingRoom, report: Report, metrics: Metrics) -> None:
    tags = ["Operations"]

    async def health() -> Response:
        return _json(operations.health())

    async def ping() -> Response:
        return _json(operations.health())

    async def ready() -> Response:
        return _json(operations.ready(engine, room))

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
    openapi_extra: dict[str, Any] | None = None,
) -> None:
    app.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        operation_id=endpoint.__name__,
        summary=summary,
        tags=tags,
        response_class=Response,
        response_model=None,
        responses=responses,
        openapi_extra=openapi_extra,
    )


def _json(value: dict[str, object]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        message = f"there is nothing at {quote(path, 200)}; GET /openapi.json lists every route"
    elif error.status_code == 405:
        error.headers = {"Allow": _allowed(request)}
        allowed = error.headers["Allow"]
        message = f"{quote(path, 200)} does not answer {quote(request.method)}; use {allowed}"
    else:
        message = str(error.detail)
    response = await _answer_error(request, RefusedError(error.status_code, message))
    response.headers.update(error.headers or {})
    return response


def _allowed(request: Request) -> str:
    """The methods of a path that is there: those of all its routes, where the framework tells the first one's."""
    routes: list[Any] = [
        route for route in request.app.router.routes if route.matches(request.scope)[0] is not Match.NONE
    ]
    return ", ".join(sorted({method for route in routes if route.path == routes[0].path for method in route.methods}))


async def _answer_error(request: Request, error: Exception) -> Response:
    status, body, headers = answer(error, protocol_of(request.url.path))
    extra = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status, extra, media_type="application/json")
