"""`POST /tasks/{task}` and `GET /tasks`.

A body holds `inputs`, and may hold `parameters` and `model`; other fields are refused. An answer holds an output for
each input, and always what it cost. Errors are {"error": message}.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial

from ridgeline_server.config import ServerConfig
from ridgeline_server.errors import InvalidInputError
from ridgeline_server.http.asking import ask, beside_loop, write_json
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.engine import Engine
from ridgeline_server.http.errors import Protocol, quote
from ridgeline_server.http.exchange import JSON, Exchange, Headers
from ridgeline_server.http.parsing import json_object
from ridgeline_server.http.reply import as_raw, matrix
from ridgeline_server.http.routing import InferenceRoute
from ridgeline_server.http.schemas import Schema
from ridgeline_server.http.tasks import inputs, parameters, schemas
from ridgeline_server.request import ModelInfo
from ridgeline_server.tasks.base import Task

_FIELDS = ("inputs", "parameters", "model")
_KEYS = tuple(f'"{name}"'.encode() for name in _FIELDS)


class Tasks:
    """Handlers of the routes of tasks."""

    def __init__(self, engine: Engine, catalog: Catalog, config: ServerConfig, tasks: Mapping[str, Task]) -> None:
        self._engine = engine
        self._catalog = catalog
        self._config = config
        self._tasks = tasks

    def routes(self) -> list[InferenceRoute]:
        """A route for each task: what nobody knows is not theirs, and makes no label of a metric."""
        return [
            InferenceRoute(path(task), Protocol.PLAIN, partial(self.answer, task), is_model_in_path=False)
            for task in self._tasks.values()
        ]

    async def answer(self, task: Task, exchange: Exchange, body: bytes) -> tuple[bytes, Headers]:
        """`POST /tasks/{task}`."""
        fields = json_object(body, _KEYS)
        for name in fields:
            if name not in _FIELDS:
                raise _unknown(task, name)
        if fields.get("inputs") is None:
            raise InvalidInputError("the field `inputs` is missing; GET /tasks tells what each task takes", "inputs")
        info = self._model(task, fields.get("model"))
        wanted = parameters.parse(task.parameters, fields.get("parameters"))
        given = inputs.parse(task, fields["inputs"], info, self._config, has_nul=b"\\u0000" in body)
        outputs = await ask(self._engine, exchange, info, task.prepare(info, given.inputs, wanted))
        result = exchange.result
        assert result is not None, "what was answered has a result"
        tokens = sum(result.tokens)
        reply = {
            "task": task.name,
            "model": result.model,
            "outputs": outputs,
            "usage": {"tokens": tokens, "truncated": result.truncated},
            "ridgeline": exchange.cost(),
        }
        rows = await beside_loop(exchange.size, matrix, outputs) if exchange.is_raw else None
        return (await write_json(exchange, reply), [JSON]) if rows is None else as_raw(rows, tokens)

    def describe(self) -> dict[str, object]:
        """`GET /tasks`."""
        return {"tasks": [self._describe(task) for task in self._tasks.values()]}

    def of_model(self, info: ModelInfo) -> list[str]:
        """The tasks that can be asked of a model."""
        return [task.name for task in self._tasks.values() if task.is_for(info)]

    def has(self, name: str) -> bool:
        """Whether there is a task of that name."""
        return name in self._tasks

    def no_such(self, name: str) -> str:
        """What is said of a task that is not there."""
        near = difflib.get_close_matches(name[:60], self._tasks, n=1)
        hint = f"; did you mean {near[0]}?" if near else ";"
        return (
            f"there is no task {quote(name)}{hint} the tasks are: {', '.join(self._tasks)}; GET /tasks describes them"
        )

    def _model(self, task: Task, name: object) -> ModelInfo:
        if name is not None and type(name) is not str:
            raise InvalidInputError(
                f"`model` is {quote(name)}; give a name of GET /v1/models, or leave it out", "model"
            )
        return self._catalog.find_able(name, task.models, f"be asked for {task.name}", task.is_for)

    def _describe(self, task: Task) -> Schema:
        return {
            "name": task.name,
            "about": task.about,
            "inputs": task.inputs,
            "model_tasks": task.models,
            "models": [info.name for info in self._catalog.models() if task.is_for(info)],
            "schema": schemas.request(task),
            "example": task.example,
        }


def path(task: Task) -> str:
    """Where a task is asked."""
    return f"/tasks/{task.name}"


def _unknown(task: Task, name: str) -> InvalidInputError:
    if name in parameters.schema(task.parameters)["properties"]:
        message = f'the field `{name}` is a parameter; put it into `parameters`: {{"{name}": …}}'
        return InvalidInputError(message, name)
    return parameters.unknown_field(name, _FIELDS)
