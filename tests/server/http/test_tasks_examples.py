"""Every task's own example, asked of a server of every kind of model: the answer is as the document says."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from ridgeline_server.request import Request, Result
from ridgeline_server.tasks.base import Task
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.registry import TASKS
from tests.server.http.task_engine import TaskEngine
from tests.server.http_fakes import Server

SERVER = Server(TaskEngine())
DOCUMENT = SERVER.get("/openapi.json").json
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))


def component(task: Task, what: str) -> dict[str, Any]:
    """The schema of a body as the document has it."""
    operation = DOCUMENT["paths"][f"/tasks/{task.name}"]["post"]
    content = operation["requestBody"] if what == "request" else operation["responses"]["200"]
    name = content["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema: dict[str, Any] = DOCUMENT["components"]["schemas"][name]
    return schema


@each_task
def test_the_example_is_answered_as_documented(task: Task) -> None:
    body = task.example
    assert jsonschema_rs.is_valid(component(task, "request"), body)
    answer = SERVER.post(f"/tasks/{task.name}", body)
    assert answer.status == 200, answer.body
    jsonschema_rs.validate(component(task, "response"), answer.json)
    inputs = task.example["inputs"]
    assert len(answer.json["outputs"]) == (len(inputs) if isinstance(inputs, list) else 1)


class _NotFinite(TaskEngine):
    """One of whose numbers is not finite."""

    async def submit(self, request: Request) -> Result:
        result = await super().submit(request)
        result.arrays[0][-1] = np.nan
        result.outputs[:] = np.nan
        return result


@each_task
@pytest.mark.parametrize("encoding", [None, "int8", "ubinary"])
def test_numbers_that_are_not_finite_are_an_error(task: Task, encoding: str | None) -> None:
    body = task.example
    if encoding is not None:
        if not hasattr(task.parameters, "encoding"):
            return
        body = body | {"parameters": {"encoding": encoding}}
    answer = Server(_NotFinite()).post(f"/tasks/{task.name}", body)
    assert (answer.status, "not finite" in answer.json["error"]) == (500, True)


@each_task
def test_schemas_are_json_schema(task: Task) -> None:
    for what in ("request", "response"):
        jsonschema_rs.meta.validate(component(task, what))


@each_task
@pytest.mark.parametrize(
    "text",
    [
        "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}!",
        "e\u0301a\u0308",
        "\u6771\u4eac",
        "\u05e9\u05dc\u05d5\u05dd",
        "\x07",
        " ",
    ],
    ids=["emoji", "combining", "cjk", "rtl", "control", "blank"],
)
def test_any_text_is_answered_or_refused_in_a_sentence(task: Task, text: str) -> None:
    inputs: Any = {
        InputKind.TEXTS: text,
        InputKind.PAIRS: {"text": text, "text_pair": text},
        InputKind.QUESTIONS: {"question": text, "context": text},
        InputKind.QUERY: {"query": text, "texts": [text]},
        InputKind.SENTENCES: {"source_sentence": text, "sentences": [text]},
    }[task.inputs]
    answer = SERVER.post(f"/tasks/{task.name}", {**task.example, "inputs": inputs})
    assert answer.status in (200, 400), answer.body
    assert answer.status == 200 or (task.name == "fill-mask" or not text.strip()), answer.body


def test_every_body_has_an_example() -> None:
    operations = [each for methods in DOCUMENT["paths"].values() for each in methods.values()]
    bodies = [each["requestBody"]["content"] for each in operations if "requestBody" in each]
    names = {content["application/json"]["schema"]["$ref"].rpartition("/")[2] for content in bodies}
    assert [name for name in sorted(names) if "example" not in DOCUMENT["components"]["schemas"][name]] == []
