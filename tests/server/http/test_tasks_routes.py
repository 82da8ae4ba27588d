"""`POST /tasks/{task}` and `GET /tasks`, with tasks made for the test around the fake engine."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Reading
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from tests.server.http_fakes import DIM, FakeEngine, Server, batch_record, embedding_of, model_info


@dataclass(frozen=True, slots=True)
class Options:
    times: int = parameter(1, about="How often.", least=1, most=9)
    spoil: str = parameter("no", about="What the answer holds.", choices=("no", "int8", "strided", "ragged"))


@dataclass(slots=True)
class Counted:
    label: str
    score: float | None


def embed(model: ModelInfo, inputs: list[Any], options: Options) -> Work:
    def finish(result: Result) -> list[Any]:
        rows = result.outputs * options.times
        made = {
            "int8": lambda: list(np.sign(rows).astype(np.int8)),
            "strided": lambda: [row[::-2] for row in rows],
            "ragged": lambda: [row[: 1 + index] for index, row in enumerate(rows)],
        }
        return made.get(options.spoil, lambda: list(rows))()

    return Work(inputs, finish, reading=Reading(max_tokens=9), truncate=False)


def count(model: ModelInfo, inputs: list[Any], options: Options) -> Work:
    return Work(inputs, lambda result: [[Counted(text, 0.5)] for text in inputs])


EMBED = Task("embed-fast", "Vectors", ("feature-extraction",), InputKind.TEXTS, Options, embed, {"inputs": "a"})
COUNT = Task(
    "count", "Counts", ("token-classification",), InputKind.TEXTS, Options, count, {"inputs": "a"}, Counted, True
)
TASKS = {task.name: task for task in (EMBED, COUNT)}
URL = "/tasks/embed-fast"


@pytest.fixture(scope="module")
def server() -> Server:
    models = [model_info(), model_info("ner", task="token-classification"), model_info("other")]
    return Server(FakeEngine(models, batches=[batch_record()]), tasks=TASKS, max_client_batch_size=4)


def test_an_answer_holds_outputs_usage_and_cost(server: Server) -> None:
    answer = server.post(URL, {"inputs": ["one", "three"], "parameters": {"times": 2}})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json
    assert list(told) == ["task", "model", "outputs", "usage", "ridgeline"]
    assert (told["task"], told["model"], told["usage"]) == ("embed-fast", "tiny", {"tokens": 12, "truncated": 0})
    assert told["outputs"] == [pytest.approx((2 * embedding_of(text)).tolist()) for text in ("one", "three")]
    assert told["ridgeline"]["flops"] == 12e6 and set(told["ridgeline"]["timings"]) >= {"queue_s", "compute_s"}
    assert "server-timing" in answer.headers and "x-request-id" in answer.headers


def test_the_work_and_the_headers_reach_the_engine(server: Server) -> None:
    answer = server.post(URL, {"inputs": "a" * 20}, x_priority="batch", x_request_timeout="9", x_request_id="mine")
    (request,) = server.engine.seen[-1:]
    assert (request.inputs, request.truncate, request.reading) == (["a" * 20], False, Reading(max_tokens=9))
    assert request.priority == "batch" and 8 < request.deadline - request.received <= 9
    assert (answer.headers["x-request-id"], answer.headers["x-truncated"]) == ("mine", "1")
    assert answer.json["usage"]["truncated"] == 1


@pytest.mark.parametrize(
    ("task", "model", "asked"),
    [("embed-fast", None, "tiny"), ("embed-fast", "other", "other"), ("count", None, "ner"), ("count", "ner", "ner")],
)
def test_the_model_is_the_one_named_or_the_first_that_can(
    server: Server, task: str, model: str | None, asked: str
) -> None:
    answer = server.post(f"/tasks/{task}", {"inputs": "a", **({} if model is None else {"model": model})})
    assert (answer.status, answer.json["model"]) == (200, asked)


def test_dataclasses_are_written_by_their_fields(server: Server) -> None:
    assert server.post("/tasks/count", {"inputs": ["a", "b"]}).json["outputs"] == [
        [{"label": "a", "score": 0.5}],
        [{"label": "b", "score": 0.5}],
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`inputs` is missing"),
        ({"inputs": None}, "`inputs` is missing"),
        ({"inputs": "a", "times": 2}, 'put it into `parameters`: {"times": …}'),
        ({"inputs": "a", "paramters": {}}, "unknown; allowed: parameters, inputs, model"),
        ({"inputs": "a", "parameters": {"time": 2}}, "'parameters.time' is unknown; allowed: times, spoil"),
        ({"inputs": "a", "parameters": {"times": 10}}, "`parameters.times` is 10; give a whole number from 1 to 9"),
        ({"inputs": "a", "parameters": []}, "`parameters` is an array"),
        ({"inputs": [1000]}, "0 to 999"),
        ({"inputs": "a\0"}, "NUL"),
        ({"inputs": "a", "model": 3}, "`model` is 3"),
        (
            {"inputs": "a", "model": "ner"},
            "'ner' is for token-classification and cannot be asked for embed-fast; these",
        ),
        ({"inputs": "a", "model": "ner"}, "these can: 'tiny', 'other'"),
        (b'{"inputs": "a", "inputs": "b"}', "given twice"),
        ([1], "send a JSON object"),
    ],
)
def test_wrong_bodies_are_refused_before_the_engine(server: Server, body: Any, said: str) -> None:
    server.engine.seen.clear()
    answer = server.post(URL, body)
    assert (answer.status, list(answer.json)) == (400, ["error"])
    assert said in answer.json["error"]
    assert not server.engine.seen


def test_too_many_inputs_are_413(server: Server) -> None:
    answer = server.post(URL, {"inputs": ["a"] * 5})
    assert (answer.status, "5 inputs; one request may hold 4" in answer.json["error"]) == (413, True)


def test_what_is_not_served_is_told() -> None:
    server = Server(FakeEngine([model_info()]), tasks=TASKS)
    answer = server.post("/tasks/count", {"inputs": "a"})
    assert answer.status == 400 and "no served model can: serve one for token-classification" in answer.json["error"]
    assert server.post("/tasks/count", {"inputs": "a", "model": "none"}).status == 404


def test_token_ids_are_no_input_of_a_task_about_text(server: Server) -> None:
    assert server.post(URL, {"inputs": [1, 2]}).status == 200
    assert "count takes texts" in server.post("/tasks/count", {"inputs": [1, 2]}).json["error"]


@pytest.mark.parametrize(
    ("spoil", "dtype", "width"), [("no", "float32", DIM), ("int8", "int8", DIM), ("strided", "float32", 4)]
)
def test_vectors_can_be_had_raw(server: Server, spoil: str, dtype: str, width: int) -> None:
    body = {"inputs": ["a", "bcd"], "parameters": {"spoil": spoil}}
    raw = server.post(URL, body, accept="application/octet-stream")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert (raw.headers["x-shape"], raw.headers["x-dtype"], raw.headers["x-tokens"]) == (f"2,{width}", dtype, "8")
    rows = np.frombuffer(raw.body, dtype).reshape(2, width)
    np.testing.assert_allclose(rows, server.post(URL, body).json["outputs"], rtol=1e-6)


@pytest.mark.parametrize(("task", "spoil"), [("embed-fast", "ragged"), ("count", "no")])
def test_what_is_no_matrix_is_json_all_the_same(server: Server, task: str, spoil: str) -> None:
    body = {"inputs": ["a", "b"], "parameters": {"spoil": spoil}}
    answer = server.post(f"/tasks/{task}", body, accept="application/octet-stream")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


def test_large_answers_are_finished_beside_the_event_loop() -> None:
    threads = []

    def prepare(model: ModelInfo, inputs: list[Any], options: Options) -> Work:
        def finish(result: Result) -> list[Any]:
            threads.append(threading.current_thread() is threading.main_thread())
            return list(result.outputs)

        return Work(inputs, finish)

    task = replace(EMBED, prepare=prepare)
    server = Server(tasks={task.name: task})
    for texts in (1, 2000):
        answer = server.post(URL, {"inputs": ["abc"] * texts})
        assert (answer.status, len(answer.json["outputs"])) == (200, texts)
    assert threads == [True, False]


def test_an_unknown_task_is_404_and_no_label_of_a_metric(server: Server) -> None:
    answer = server.post("/tasks/embed-fats", {"inputs": "a"})
    assert answer.status == 404 and "did you mean embed-fast? the tasks are: embed-fast, count" in answer.json["error"]
    assert [server.post(f"/tasks/{name}", {}).status for name in ("", "x/y", "embed-fast/")] == [404, 404, 404]
    assert server.get("/tasks/none").status == 404
    wrong = server.get(URL)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    server.post(URL, {"inputs": "a"})
    lines = server.get("/metrics").body.decode()
    assert 'route="/tasks/embed-fast"' in lines and 'route="other",status="404"' in lines
    assert "embed-fats" not in lines and "x/y" not in lines and "{name" not in lines


def test_get_tasks_describes_them(server: Server) -> None:
    told = {task["name"]: task for task in server.get("/tasks").json["tasks"]}
    assert list(told) == ["embed-fast", "count"]
    count = told["count"]
    assert (count["about"], count["inputs"], count["model_tasks"]) == ("Counts", "texts", ["token-classification"])
    assert (count["models"], told["embed-fast"]["models"]) == (["ner"], ["tiny", "other"])
    assert count["schema"]["properties"]["parameters"]["properties"]["times"]["maximum"] == 9
    assert server.post("/tasks/count", count["example"]).status == 200


def test_models_tell_what_can_be_asked_of_them(server: Server) -> None:
    told = {model["id"]: model for model in server.get("/v1/models").json["data"]}
    ner = {name: told["ner"][name] for name in ("task", "tasks", "max_tokens", "dim")}
    assert ner == {"task": "token-classification", "tasks": ["count"], "max_tokens": 16, "dim": DIM}
    assert server.get("/v1/models/tiny").json["tasks"] == ["embed-fast"]


def test_openai_embeds_with_models_that_embed_alone(server: Server) -> None:
    server.engine.seen.clear()
    answer = server.post("/v1/embeddings", {"model": "ner", "input": "a"})
    error = answer.json["error"]
    assert (answer.status, error["param"], error["type"]) == (400, "model", "invalid_request_error")
    assert "is for token-classification and cannot embed texts; these can: 'tiny', 'other'" in error["message"]
    assert not server.engine.seen
