"""Admins' routes as FastAPI is told of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from ridgeline_server.http import openapi
from ridgeline_server.http.adding import Responses, add_route, json_response
from ridgeline_server.http.admin.handlers import Admin
from ridgeline_server.http.errors import Protocol
from ridgeline_server.http.schemas import Schema, ref

_TAGS: list[Any] = ["Admin"]
_NAME: Schema = {**openapi.NAME, "description": "A model's name, or with /load that of a bundle in the repository."}
_BODY = (400, 408, 413, 415)
_LOADS = (400, 403, 404, 408, 409, 413, 415, 503)
_UNLOADS = (403, 404, 409, 503)


def add_admin(app: FastAPI, admin: Admin) -> None:
    """Add the routes; where the switch is off they answer what to set."""

    async def list_models(request: Request) -> dict[str, object]:
        return await admin.models()

    named = {"parameters": [_NAME]}
    _add(app, "GET", "/admin/models", list_models, "AdminModels", "Every version of a model in memory", (403,))
    _add(
        app,
        "POST",
        "/admin/models",
        admin.load,
        "AdminModel",
        "Load a bundle of the repository, in place of the model of that name if there is one",
        _LOADS,
        _body("AdminLoad", is_required=True),
    )
    _add(
        app,
        "DELETE",
        "/admin/models/{name}",
        admin.unload,
        "AdminUnloaded",
        "Unload a model once it has answered what it took in",
        _UNLOADS,
        named,
    )
    path = "/v2/repository/models/{name}"
    _add(
        app,
        "POST",
        f"{path}/load",
        admin.load_by_name,
        "AdminModel",
        "Load a bundle, or a served model anew, as Triton",
        _LOADS,
        named | _body("RepositoryParameters", is_required=False),
    )
    _add(
        app,
        "POST",
        f"{path}/unload",
        admin.unload_by_name,
        "AdminUnloaded",
        "Unload a model, as Triton",
        (*_UNLOADS, *_BODY),
        named | _body("RepositoryUnload", is_required=False),
    )


def _body(schema: str, *, is_required: bool) -> dict[str, Any]:
    return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": ref(schema)}}}}


def _add(
    app: FastAPI,
    method: str,
    path: str,
    handle: Callable[[Request], Awaitable[dict[str, object]]],
    schema: str,
    summary: str,
    failures: tuple[int, ...],
    extra: dict[str, Any] | None = None,
) -> None:
    async def endpoint(request: Request) -> Response:
        return json_response(await handle(request))

    responses: Responses = {200: openapi.success(schema, summary)}
    responses |= {status: openapi.failure(status, Protocol.PLAIN) for status in sorted(failures)}
    add_route(app, method, path, endpoint, f"admin_{handle.__name__}", summary, _TAGS, responses, extra)
