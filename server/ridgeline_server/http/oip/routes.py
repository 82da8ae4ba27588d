"""The `/v2` routes: inference, which the door answers, and what is told of server and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response

from ridgeline_server.http import openapi
from ridgeline_server.http.adding import Responses, add_documented, add_route, json_response
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol
from ridgeline_server.http.oip import metadata
from ridgeline_server.http.oip.handlers import HEADER_LENGTH, OpenInference
from ridgeline_server.http.parsing import require_json
from ridgeline_server.http.routing import InferenceRoute
from ridgeline_server.http.schemas import Schema
from ridgeline_server.http.waiting import WaitingRoom

_TAGS: list[Any] = ["Open Inference Protocol"]
_MODEL = "/v2/models/{name}"
_VERSION = f"{_MODEL}/versions/{{version}}"
_VERSION_PARAMETER: Schema = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "A version that GET /v2/models/{name} lists.",
    "schema": {"type": "string", "minLength": 1},
    "example": "1",
}


def check_media(given: Mapping[bytes, bytes]) -> None:
    """Raises RefusedError 415 for a body of another type than the protocol's.

    Its clients name none, or the header that says where the JSON ends, which no browser sends across origins unasked. A
    body without a type that comes from a page is refused, as everywhere.
    """
    is_from_page = b"origin" in given or b"sec-fetch-site" in given
    if HEADER_LENGTH not in given and (b"content-type" in given or is_from_page):
        require_json(given.get(b"content-type", b""))


def inference_routes(handlers: OpenInference) -> list[InferenceRoute]:
    """A named version goes before the latest: its path also has the form of the other's, with a longer name."""
    return [
        InferenceRoute(f"{path}/infer", Protocol.PLAIN, handlers.infer, is_model_in_path=True, check_media=check_media)
        for path in (_VERSION, _MODEL)
    ]


def add_open_inference(app: FastAPI, handlers: OpenInference, engine: Engine, room: WaitingRoom) -> None:
    """Add the routes that are not inference's, and the descriptions of those that are."""

    async def live() -> Response:
        return json_response({"live": True})

    async def ready() -> Response:
        is_ready = engine.is_ready() and not room.is_closed
        return json_response({"ready": is_ready}, 200 if is_ready else 503)

    async def server() -> Response:
        return json_response(metadata.server_metadata())

    async def model_ready(request: Request) -> Response:
        is_ready = handlers.is_model_ready(*_named(request)) and not room.is_closed
        return json_response({"name": request.path_params["name"], "ready": is_ready}, 200 if is_ready else 503)

    async def model(request: Request) -> Response:
        return json_response(handlers.model(*_named(request)))

    async def index() -> Response:
        return json_response(handlers.index())

    _add(app, "/v2/health/live", live, "oip_live", "The process is alive", "Live")
    _add(app, "/v2/health/ready", ready, "oip_ready", "Every model has a live replica", "ReadyState", (503,))
    _add(app, "/v2", server, "oip_server", "The server and its extensions", "ServerMetadata")
    _add(app, "/v2/repository/index", index, "oip_index", "The models and their states", "ModelIndex", method="POST")
    for path, suffix, parameters in (
        (_VERSION, "_version", [openapi.NAME, _VERSION_PARAMETER]),
        (_MODEL, "", [openapi.NAME]),
    ):
        template = path.replace("{name}", "{name:path}")
        extra = {"parameters": parameters}
        _add_inference(app, f"{template}/infer", f"oip_infer{suffix}", parameters)
        summary = "A model has a live replica"
        _add(
            app, f"{template}/ready", model_ready, f"oip_model_ready{suffix}", summary, "ReadyState", (404, 503), extra
        )
        summary = "What a model takes and gives"
        _add(app, template, model, f"oip_model{suffix}", summary, "ModelMetadata", (404,), extra)


def _named(request: Request) -> tuple[str, str | None]:
    return request.path_params["name"], request.path_params.get("version")


def _add_inference(app: FastAPI, path: str, name: str, parameters: list[Schema]) -> None:
    described = openapi.inference(Protocol.PLAIN, "InferRequest", "InferResponse", tuple(parameters), has_raw=False)
    add_documented(app, path, name, "Tensors in, tensors out", _TAGS, described)


def _add(
    app: FastAPI,
    path: str,
    endpoint: Callable[..., Any],
    name: str,
    summary: str,
    schema: str,
    failures: tuple[int, ...] = (),
    extra: dict[str, Any] | None = None,
    method: str = "GET",
) -> None:
    responses: Responses = {200: openapi.success(schema, summary)}
    for status in failures:
        is_state = status == 503
        responses[status] = (
            openapi.success(schema, "It is not") if is_state else openapi.failure(status, Protocol.PLAIN)
        )
    add_route(app, method, path, endpoint, name, summary, _TAGS, responses, extra)
