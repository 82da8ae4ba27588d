"""What the OpenAPI document says of tasks: generated from what each task says of itself."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ridgeline_server.http.schemas import COST, NAMES, Schema
from ridgeline_server.http.tasks import inputs, parameters
from ridgeline_server.tasks.base import Task

_SIMPLE: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
    np.ndarray: {"type": "array"},
    Any: {},
}
_NUMBER: Schema = {"type": "number"}
_NUMBERS: Schema = {"type": "array", "items": _NUMBER}
_ARRAYS: Schema = {"anyOf": [_NUMBER, _NUMBERS, {"type": "array", "items": _NUMBERS}]}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def component(task: Task, what: str) -> str:
    """The name of a task's component. what: "Request" or "Response" """
    return "".join(map(str.capitalize, task.name.split("-"))) + what


def components(tasks: Iterable[Task]) -> Schema:
    """The components of all tasks, and of `GET /tasks`."""
    described: Schema = {"TaskList": _TASK_LIST}
    for task in tasks:
        described[component(task, "Request")] = request(task)
        described[component(task, "Response")] = response(task)
    return described


def request(task: Task) -> Schema:
    """The JSON Schema of a body of the task."""
    required = ["inputs", "parameters"] if parameters.required_names(task.parameters) else ["inputs"]
    options = parameters.schema(task.parameters)
    if "parameters" not in required:
        options = {**options, "type": ["object", "null"]}
    return {
        "type": "object",
        "required": required,
        "properties": {
            "inputs": inputs.schema(task),
            "parameters": options,
            "model": {
                "type": ["string", "null"],
                "description": f"A model that is for {' or '.join(task.models)}. Absent: the first such.",
            },
        },
        "additionalProperties": False,
        "example": task.example,
    }


def response(task: Task) -> Schema:
    """The JSON Schema of an answer of the task."""
    forms = [answer_schema(kind) for kind in (task.answer, task.detailed) if kind is not None]
    listed = [{"type": "array", "items": form} for form in forms]
    arrays = _ARRAYS["anyOf"] if task.answer is None else []
    return {
        "type": "object",
        "required": ["task", "model", "outputs", "usage", "ridgeline"],
        "properties": {
            "task": {"const": task.name},
            "model": {"type": "string"},
            "outputs": {
                "type": "array",
                "items": {"anyOf": [*arrays, *forms, *listed]},
                "description": "An answer for each input, in their order.",
            },
            "usage": {
                "type": "object",
                "required": ["tokens", "truncated"],
                "properties": {
                    "tokens": {**_COUNT, "description": "That the model read, special tokens included."},
                    "truncated": {**_COUNT, "description": "Sequences that were cut."},
                },
            },
            "ridgeline": {**COST, "description": "What the answer cost. What is not known is null."},
        },
    }


def answer_schema(annotation: Any) -> Schema:
    """The JSON Schema of what orjson writes of a value with this annotation."""
    if dataclasses.is_dataclass(annotation):
        kinds = typing.get_type_hints(annotation)
        names = [field.name for field in dataclasses.fields(annotation) if not field.name.startswith("_")]
        properties = {name: answer_schema(kinds[name]) for name in names}
        return {"type": "object", "required": names, "properties": properties}
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [answer_schema(each) for each in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is np.ndarray:
        return _ARRAYS
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": answer_schema(arguments[1])}
    if origin is tuple and Ellipsis not in arguments:
        entries = [answer_schema(each) for each in arguments]
        return {"type": "array", "prefixItems": entries, "minItems": len(entries), "maxItems": len(entries)}
    if origin is not None and arguments:
        return {"type": "array", "items": answer_schema(arguments[0])}
    assert isinstance(annotation, type) and issubclass(annotation, enum.Enum), f"no schema for {annotation}"
    return {"enum": [each.value for each in annotation]}


_TASK_LIST: Schema = {
    "type": "object",
    "required": ["tasks"],
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "about", "inputs", "model_tasks", "models", "schema", "example"],
                "properties": {
                    "name": {"type": "string"},
                    "about": {"type": "string"},
                    "inputs": {"type": "string", "description": "What its inputs look like, in a word."},
                    "model_tasks": {**NAMES, "description": "What a model must be for."},
                    "models": {**NAMES, "description": "The served models that are, the default one first."},
                    "schema": {"type": "object", "description": "The JSON Schema of its body."},
                    "example": {"type": "object", "description": "A body."},
                },
            },
        }
    },
}
