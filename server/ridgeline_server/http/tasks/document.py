"""The routes of tasks as FastAPI is told of them: the door answers those that it documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ridgeline_server.http import openapi
from ridgeline_server.http.adding import Responses, add_route, json_response
from ridgeline_server.http.errors import Protocol, RefusedError
from ridgeline_server.http.tasks.routes import Tasks, path
from ridgeline_server.http.tasks.schemas import component
from ridgeline_server.tasks.base import Task

_TAGS: list[Any] = ["Tasks"]


def add_tasks(app: FastAPI, tasks: Tasks, described: Iterable[Task]) -> None:
    """Add `GET /tasks`, what is said of each task, and the answer to what is no task."""

    async def list_tasks() -> Response:
        return json_response(tasks.describe())

    async def no_task(request: Request) -> Response:
        name = request.path_params["name"]
        if tasks.has(name):
            raise HTTPException(405, headers={"Allow": "POST"})
        raise RefusedError(404, tasks.no_such(name))

    summary = "All tasks, and the served models that can do each"
    responses: Responses = {200: openapi.success("TaskList", "The tasks")}
    add_route(app, "GET", "/tasks", list_tasks, "list_tasks", summary, _TAGS, responses)
    for task in described:
        app.add_api_route(
            path(task),
            no_task,
            methods=["POST"],
            operation_id=task.name.replace("-", "_"),
            summary=task.about,
            tags=_TAGS,
            response_class=Response,
            response_model=None,
            **openapi.inference(
                Protocol.PLAIN, component(task, "Request"), component(task, "Response"), has_raw=task.answer is None
            ),
        )
    app.add_api_route(
        "/tasks/{name:path}", no_task, methods=["GET", "POST"], include_in_schema=False, response_model=None
    )
