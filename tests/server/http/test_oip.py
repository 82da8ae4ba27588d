"""The Open Inference Protocol over HTTP, against a fake engine."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest

from tests.server import http_fakes
from tests.server.http.task_engine import TaskEngine
from tests.server.http_fakes import DIM, Answer, FakeEngine, Server, embedding_of, model_info

INFER = "/v2/models/tiny/infer"

# Deeper than Python's own functions follow.
DEEP = b'{"a":' * 900 + b"1" + b"}" * 900


@pytest.fixture
def server() -> Server:
    classifier = model_info("classes", task="text-classification", labels=("calm", "glad"), dim=DIM)
    return Server(FakeEngine(infos=[model_info(), classifier]))


def text(*values: str) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(values)], "data": list(values)}


def binary(body: dict[str, Any], *raw: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
    head = orjson.dumps(body)
    given = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return b"".join((head, *raw)), given | headers


def post(server: Server, path: str, body: bytes, headers: dict[str, str]) -> Answer:
    return server.ask("POST", path, body, headers)


def test_texts_are_embedded(server: Server) -> None:
    answer = server.post(INFER, {"id": "7", "inputs": [text("ab", "abc")]})
    (output,) = answer.json["outputs"]
    assert answer.status == 200 and answer.json["id"] == "7" and answer.json["model_name"] == "tiny"
    assert (output["name"], output["datatype"], output["shape"]) == ("embedding", "FP32", [2, DIM])
    assert (
        np.array(output["data"], np.float32).tolist()
        == np.concatenate([embedding_of("ab"), embedding_of("abc")]).tolist()
    )


def test_raw_elements_in_and_out(server: Server) -> None:
    raw = b"".join(struct.pack("<I", len(value)) + value for value in ("é".encode(), b"abc"))
    entry = {"name": "text", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(raw)}}
    body, headers = binary({"inputs": [entry], "parameters": {"binary_data_output": True}}, raw)
    answer = post(server, INFER, body, headers)
    length = int(answer.headers["inference-header-content-length"])
    (output,) = orjson.loads(answer.body[:length])["outputs"]
    rows = np.frombuffer(answer.body[length:], "<f4").reshape(output["shape"])
    assert output["parameters"]["binary_data_size"] == len(answer.body) - length
    assert rows.tolist() == [embedding_of("é").tolist(), embedding_of("abc").tolist()]


def test_token_states_are_padded_to_what_an_answer_may_hold() -> None:
    server = Server(TaskEngine(), max_answer_bytes=4 * DIM * 30)
    body = {"outputs": [{"name": "last_hidden_state"}], "inputs": [text("a", "b", "cdefgh")]}
    url = "/v2/models/embedder/infer"
    assert server.post(url, body).json["outputs"][0]["shape"] == [3, 8, DIM]
    answer = server.post(url, body | {"inputs": [text("a", "b", "c", "defgh")]})
    assert answer.status == 200 and answer.json["outputs"][0]["shape"] == [4, 7, DIM]
    refused = server.post(url, body | {"inputs": [text("a", "b", "c", "defghi")]})
    assert refused.status == 413 and f"[4, 8, {DIM}]" in refused.json["error"]


@pytest.mark.parametrize("datatype", ["INT64", "INT32"])
def test_token_ids_without_their_padding(server: Server, datatype: str) -> None:
    ids, mask = [[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]]
    tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": [[0, 1, 1], [0, 0, 0]]}
    inputs = [{"name": name, "datatype": datatype, "shape": [2, 3], "data": value} for name, value in tensors.items()]
    assert server.post(INFER, {"inputs": inputs}).status == 200
    first, second = server.engine.seen[-1].inputs
    assert (first.ids.tolist(), first.type_ids.tolist()) == ([5, 6, 7], [0, 1, 1])  # type: ignore[union-attr]
    assert second.ids.tolist() == [8]  # type: ignore[union-attr]


def test_a_classifier_gives_logits_scores_and_labels(server: Server) -> None:
    answer = server.post(
        "/v2/models/classes/versions/1/infer", {"inputs": [text("a"), {**text("b"), "name": "text_pair"}]}
    )
    outputs = {output["name"]: output for output in answer.json["outputs"]}
    assert list(outputs) == ["logits", "scores", "label"] and sum(outputs["scores"]["data"]) == pytest.approx(1)
    assert server.engine.seen[-1].inputs == [("a", "b")]
    only = server.post("/v2/models/classes/infer", {"inputs": [text("a")], "outputs": [{"name": "label"}]})
    assert [output["name"] for output in only.json["outputs"]] == ["label"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "`inputs` is missing"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a"]}]}, "has 2 elements; 1 were given"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1], "data": ["a"]}]}, "shape of input 'text'"),
    (
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]}]},
        r"BYTES of shape \[inputs\]",
    ),
    ({"inputs": [{"name": "text", "datatype": "INT8", "shape": [0, 2**31 - 1, 2**31 - 1], "data": []}]}, "up to 2"),
    ({"inputs": [text("a")], "outputs": 0}, "`outputs` is 0"),
    ({"inputs": [text("a")], "outputs": ""}, "`outputs` is ''"),
    ({"inputs": [text("a")], "id": 7}, "`id` is 7"),
    ({"inputs": [{"name": "text", "datatype": "BITES", "shape": [1], "data": ["a"]}]}, "allowed: BOOL"),
    ({"inputs": [{"name": "text", "datatype": "FP32", "shape": [1], "data": [1]}]}, "give BYTES"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [1]}]}, "give texts"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [None]}]}, "holds null; give texts"),
    ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1]}]}, "no `data`"),
    ({"inputs": [{"name": "txt", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}, "it takes: text, input_ids"),
    ({"inputs": [text("a"), text("a")]}, "twice"),
    ({"inputs": [text("")]}, "is empty"),
    ({"inputs": [text("a\0")]}, "NUL"),
    ({"inputs": [text()]}, "at least one input"),
    ({"inputs": [text("a")], "outputs": [{"name": "x"}]}, "it gives: embedding"),
    ({"inputs": [text("a")], "parameters": {"colour": 1}}, "colour"),
    ({"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [5000]}]}, "ids are 0 to 999"),
    ({"inputs": [{"name": "input_ids", "datatype": "INT64", "shape": [1, 1], "data": [1.5]}]}, "datatype INT64"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
def test_what_is_wrong_is_said(server: Server, body: dict[str, Any], message: str) -> None:
    answer = server.post(INFER, body)
    assert answer.status == 400
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(answer.json["error"])


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (b'"datatype": "BYTES", "shape": [1], "data": [%b]', "holds an object"),
        (b'"datatype": "FP32", "shape": [1], "data": [%b]', "holds an object"),
        (b'"datatype": %b, "shape": [1], "data": ["a"]', "is an object; allowed: BOOL"),
        (b'"datatype": "BYTES", "shape": [%b], "data": ["a"]', "is an array; give an array"),
        (b'"datatype": "BYTES", "shape": [1], "data": ["a"], "parameters": %b', ""),
    ],
)
def test_what_is_nested_too_deeply_is_said(server: Server, tensor: bytes, says: str) -> None:
    answer = server.post(INFER, b'{"inputs": [{"name": "text", ' + tensor % DEEP + b"}]}")
    assert answer.status == (400 if says else 200) and says in answer.body.decode()


@pytest.mark.parametrize(("datatype", "shape"), [("INT64", [2049, 1]), ("BYTES", [1, 2049]), ("BYTES", [2049])])
def test_too_many_inputs_are_refused_before_their_elements_are_read(
    server: Server, datatype: str, shape: list[int]
) -> None:
    entry = {"name": "text", "datatype": datatype, "shape": shape, "data": "no elements"}
    answer = server.post(INFER, {"inputs": [entry]})
    assert answer.status == 413 and "2049 inputs" in answer.json["error"]


def test_embeddings_that_are_not_finite_are_no_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_fakes, "embedding_of", lambda _: np.full(DIM, np.nan, np.float32))
    assert server.post(INFER, {"inputs": [text("a")]}).status == 500


def test_what_is_null_is_left_out(server: Server) -> None:
    body = {"inputs": [text("a")], "id": None, "outputs": None, "parameters": None}
    answer = server.post(INFER, body)
    assert answer.status == 200 and "id" not in answer.json


def test_raw_elements_that_do_not_fit(server: Server) -> None:
    entry = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}}
    for raw in (b"\x02\0\0\0a", b"\x09\0\0\0ab", b"\x01\0\0\0ab", b"\x02\0\0\0abcd"):
        body, headers = binary({"inputs": [entry]}, raw)
        assert post(server, INFER, body, headers).status == 400
    body, headers = binary({"inputs": [text("a")]})
    assert post(server, INFER, body, headers | {"inference-header-content-length": "999"}).status == 400


def test_what_is_told_of_server_and_models(server: Server) -> None:
    assert server.get("/v2").json["extensions"] == ["binary_tensor_data", "model_repository"]
    assert server.get("/v2/health/live").status == server.get("/v2/health/ready").status == 200
    model = server.get("/v2/models/tiny").json
    assert model["outputs"][0] == {"name": "embedding", "datatype": "FP32", "shape": [-1, DIM]}
    assert server.get("/v2/models/tiny/ready").status == server.get("/v2/models/tiny/versions/1/ready").status == 200
    assert server.get("/v2/models/tiny/versions/2").status == server.get("/v2/models/nothing").status == 404
    assert [entry["state"] for entry in server.post("/v2/repository/index", {}).json] == ["READY", "READY"]
    server.engine.ready = False
    assert server.get("/v2/health/ready").status == 503
