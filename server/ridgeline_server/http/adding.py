"""Routes as FastAPI is told of them; their answers are Response objects, which it neither checks nor converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

Responses = dict[int | str, dict[str, Any]]


def json_response(value: object, status: int = 200) -> Response:
    """An answer of JSON."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def add_route(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    name: str,
    summary: str,
    tags: list[Any],
    responses: Responses,
    extra: dict[str, Any] | None = None,
) -> None:
    """Have `endpoint` answer. name: the operation's, unique; extra: what else the document says of it"""
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        operation_id=name,
        summary=summary,
        tags=tags,
        response_class=Response,
        response_model=None,
        responses=responses,
        openapi_extra=extra,
    )


def add_documented(
    app: FastAPI, path: str, name: str, summary: str, tags: list[Any], description: dict[str, Any]
) -> None:
    """Describe a route that the door answers; FastAPI answers only its wrong methods and empty names."""

    async def unreachable() -> Response:
        # the door answers every path that names something; what is left is a path with an empty name
        raise HTTPException(404)

    app.add_api_route(
        path,
        unreachable,
        methods=["POST"],
        operation_id=name,
        summary=summary,
        tags=tags,
        response_class=Response,
        response_model=None,
        **description,
    )
