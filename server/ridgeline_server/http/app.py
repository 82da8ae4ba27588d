"""Assembles the ASGI application: the door, the protocols' routes, and the document that describes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import RequestError
from ridgeline_server.http import openapi
from ridgeline_server.http.admin import ADMIN_SCHEMAS, Admin, Administration, add_admin
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.cors import make_cors
from ridgeline_server.http.descriptions import add_openai, add_operations, add_rerank, add_tei
from ridgeline_server.http.door import Door
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol, RefusedError, answer, quote
from ridgeline_server.http.guard import Guard, describe_keys
from ridgeline_server.http.ledger import Ledger
from ridgeline_server.http.notes import Notes
from ridgeline_server.http.oip.handlers import OpenInference
from ridgeline_server.http.oip.routes import add_open_inference, inference_routes
from ridgeline_server.http.oip.schemas import OIP_SCHEMAS
from ridgeline_server.http.openai import OpenAI
from ridgeline_server.http.pages.routes import add_dashboard
from ridgeline_server.http.pipeline import Pipeline, model_routes
from ridgeline_server.http.rerank import Rerank
from ridgeline_server.http.rerank_schemas import RERANK_SCHEMAS
from ridgeline_server.http.routing import InferenceRoute, protocol_of
from ridgeline_server.http.schemas import SCHEMAS, Schema
from ridgeline_server.http.tasks.document import add_tasks
from ridgeline_server.http.tasks.routes import Tasks
from ridgeline_server.http.tasks.schemas import components
from ridgeline_server.http.tei import TextEmbeddingsInference
from ridgeline_server.http.tei.schemas import TEI_SCHEMAS
from ridgeline_server.http.waiting import WaitingRoom
from ridgeline_server.report import Metrics, Report
from ridgeline_server.security.hosts import is_loopback
from ridgeline_server.security.key_ring import KeyRing
from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.registry import TASKS
from ridgeline_server.version import server_version

if TYPE_CHECKING:
    from ridgeline_server.report.tracing import Tracing

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    engine: Engine,
    config: ServerConfig,
    report: Report,
    metrics: Metrics,
    *,
    lifespan: Lifespan | None = None,
    keys: KeyRing | None = None,
    ledger: Ledger | None = None,
    tasks: Mapping[str, Task] = TASKS,
    tracing: Tracing | None = None,
    administration: Administration | None = None,
) -> Door:
    """The ASGI application that serves `engine`.

    lifespan: async context manager around the server's life, given the FastAPI application
    keys:     those that open it, None = it is open
    ledger:   takes an entry for each request
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
    add_openai(app, openai)
    add_rerank(app)
    add_tei(app, tei)
    add_tasks(app, own, tasks.values())
    room = WaitingRoom()
    add_operations(app, engine, room, report, metrics)
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
    notes = None
    if ledger is not None or tracing is not None:
        notes = Notes(ledger, tracing, config.log_texts)
    return Door(app, routes, engine, catalog, config, metrics, room, report.history, guard, notes)


def _describe(make: Callable[[], dict[str, Any]], schemas: Schema, has_keys: bool) -> dict[str, Any]:
    """The document, made when it is first asked for: that takes longer than all else of the application."""
    document = make()
    document.setdefault("components", {})["schemas"] = schemas
    if has_keys:
        describe_keys(document, lambda status, path: openapi.failure(status, protocol_of(path)))
    return document


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
