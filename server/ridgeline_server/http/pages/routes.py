"""The dashboard's routes: `/`, its files under `/dashboard/`, and its data; and `/docs`, which describes all routes."""

from __future__ import annotations

import asyncio
import gzip
import time
from functools import lru_cache

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ridgeline_server.http import openapi
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol, RefusedError, quote
from ridgeline_server.http.pages import files
from ridgeline_server.http.schemas import Schema
from ridgeline_server.http.waiting import STOPPING, WaitingRoom
from ridgeline_server.report.dashboard import tell
from ridgeline_server.report.history import History
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.registry import TASKS

# The plotting library sets styles from its code; nothing else is inline, and nothing comes from elsewhere.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_SAFE = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_MOST_DIGITS = 15


def add_dashboard(app: FastAPI, engine: Engine, room: WaitingRoom, history: History) -> None:
    """Add the routes to the application."""
    library = files.Library()
    history.watch_queue(lambda: sum(info.queued_sequences for info in engine.models()))

    async def dashboard(request: Request) -> Response:
        return await _send(request, files.read("dashboard.html"))

    async def docs(request: Request) -> Response:
        return await _send(request, files.read("docs.html"))

    async def dashboard_file(request: Request) -> Response:
        name = request.path_params["name"]
        if name == files.LIBRARY:
            found = await library.read()
            if found is None:
                raise RefusedError(404, "the charts need a package that is missing; run: pip install plotly")
            return await _send(request, found)
        if name not in files.names():
            raise HTTPException(404)
        return await _send(request, files.read(name))

    async def dashboard_data(request: Request) -> Response:
        models = engine.models()
        reasons = [f"{info.name}: {reason}" for info in models for reason in info.reasons]
        told = {
            "started": history.started_unix_s,
            "now": time.time(),
            "uptime_s": history.uptime_s,
            "is_ready": engine.is_ready() and not room.is_closed,
            "reasons": [STOPPING] if room.is_closed else reasons,
            **tell(history, models, _since(request.query_params.get("since")), _tasks_of),
        }
        headers = {**_SAFE, "cache-control": "no-store"}
        return Response(orjson.dumps(told), media_type="application/json", headers=headers)

    for path, endpoint in (("/", dashboard), ("/docs", docs), ("/dashboard/{name}", dashboard_file)):
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False, response_model=None)
    app.add_api_route(
        "/dashboard.json",
        dashboard_data,
        methods=["GET"],
        operation_id="dashboard",
        summary="What the dashboard at / shows",
        tags=["Operations"],
        response_class=Response,
        response_model=None,
        responses={
            200: {"description": "What happened since", "content": {"application/json": {"schema": _DATA}}},
            400: openapi.failure(400, Protocol.PLAIN),
        },
        openapi_extra={"parameters": [_SINCE]},
    )


def _tasks_of(info: ModelInfo) -> list[str]:
    return [task.name for task in TASKS.values() if task.is_for(info)]


_OBJECT: Schema = {"type": "object"}
_DATA: Schema = {
    "type": "object",
    "required": ["started", "now", "uptime_s", "is_ready", "reasons", "slot_s", "next", "window", "slots", "models"],
    "properties": {
        "started": {"type": "number", "description": "Unix seconds"},
        "now": {"type": "number", "description": "Unix seconds"},
        "uptime_s": {"type": "number"},
        "is_ready": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}, "description": "Why it is not ready"},
        "slot_s": {"type": "number", "description": "Seconds of a slot"},
        "next": {"type": "integer", "description": "What to give as `since` next time"},
        "window": {**_OBJECT, "description": "Rates, latencies and shares over the last slots"},
        "slots": {**_OBJECT, "description": "A list for each figure, with an entry for each slot"},
        "batches": {**_OBJECT, "description": "A list for each fact, with an entry for each batch"},
        "models": {"type": "array", "items": _OBJECT},
    },
}
_SINCE: Schema = {
    "name": "since",
    "in": "query",
    "description": "`next` of the answer before; without it all of the last five minutes.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 10**_MOST_DIGITS - 1},
}


def _since(given: str | None) -> int:
    if given is None:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS):
        raise RefusedError(
            400, f"`since` is {quote(given)}; give the whole number that the last answer has as `next`, or leave it out"
        )
    return int(given)


async def _send(request: Request, file: files.File) -> Response:
    headers = {**_SAFE, "etag": file.etag, "cache-control": file.cache_control, "vary": "accept-encoding"}
    if _names(request.headers.get("if-none-match", ""), file.etag):
        return Response(status_code=304, headers=headers)
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        headers["content-encoding"] = "gzip"
        return Response(file.compressed, media_type=file.media_type, headers=headers)
    body = await asyncio.to_thread(_plain, file.compressed)
    return Response(body, media_type=file.media_type, headers=headers)


@lru_cache(maxsize=64)
def _plain(compressed: bytes) -> bytes:
    """A file's bytes, once for all clients: slow readers of a large file must not each hold a copy."""
    return gzip.decompress(compressed)


def _names(given: str, etag: str) -> bool:
    """Whether an If-None-Match header names the file, strongly or weakly."""
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag.removeprefix("W/") in tags


def _takes_gzip(given: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for choice in given.lower().split(","):
        coding, _, weight = choice.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
