import base64

import numpy as np
import pytest

from tests.server.http_fakes import DIM, FakeEngine, Server, embedding_of, model_info

URL = "/v1/embeddings"


@pytest.fixture(scope="module")
def server() -> Server:
    return Server(max_client_batch_size=5)


def test_answers_with_openais_schema(server: Server) -> None:
    answer = server.post(URL, {"model": "tiny", "input": ["one", "three"], "user": "someone"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": pytest.approx(embedding_of("one").tolist())},
            {"object": "embedding", "index": 1, "embedding": pytest.approx(embedding_of("three").tolist())},
        ],
        "model": "tiny",
        "usage": {"prompt_tokens": 12, "total_tokens": 12},
    }


def test_base64_holds_the_same_float32_bytes(server: Server) -> None:
    answer = server.post(URL, {"model": "tiny", "input": "one", "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(answer.json["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, embedding_of("one"))


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        ("text", ["text"]),
        (" ", [" "]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 3, 4, 5, 6], [[1, 2, 3, 4, 5, 6]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
    ids=["text", "whitespace", "texts", "ids", "lists-of-ids"],
)
def test_accepts_every_form_of_input(server: Server, given: object, handed_on: object) -> None:
    assert server.post(URL, {"model": "other", "input": given}).status == 200
    request = server.engine.seen[-1]
    assert (request.inputs, request.model, request.truncate, request.normalize) == (handed_on, "other", None, None)


@pytest.mark.parametrize("fields", [{"dimensions": DIM}, {"dimensions": None}, {"encoding_format": None}, {"x": [{}]}])
def test_accepts_own_dimensions_nulls_and_unknown_fields(server: Server, fields: dict[str, object]) -> None:
    assert server.post(URL, {"model": "tiny", "input": "a", **fields}).status == 200


def test_fewer_dimensions_are_the_first_ones(server: Server) -> None:
    answer = server.post(URL, {"model": "tiny", "input": ["a", "bcd"], "dimensions": 3})
    assert [entry["embedding"] for entry in answer.json["data"]] == [
        pytest.approx(embedding_of(text)[:3].tolist()) for text in ("a", "bcd")
    ]
    coded = server.post(URL, {"model": "tiny", "input": "a", "dimensions": 3, "encoding_format": "base64"})
    decoded = np.frombuffer(base64.b64decode(coded.json["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_array_equal(decoded, embedding_of("a")[:3])


def test_fewer_dimensions_of_a_model_that_normalizes_have_unit_length() -> None:
    server = Server(FakeEngine([model_info(normalize=True)]))
    answer = server.post(URL, {"model": "tiny", "input": "a", "dimensions": 3})
    kept = embedding_of("a")[:3]
    assert answer.json["data"][0]["embedding"] == pytest.approx((kept / np.linalg.norm(kept)).tolist())


def test_more_dimensions_say_which_the_model_has(server: Server) -> None:
    answer = server.post(URL, {"model": "tiny", "input": "a", "dimensions": DIM + 1})
    assert (answer.status, answer.json["error"]["param"]) == (400, "dimensions")
    assert f"have {DIM}" in answer.json["error"]["message"]


def test_the_models_default_prompt_goes_before_texts() -> None:
    info = model_info(prompts={"query": "query: "}, default_prompt="query")
    server = Server(FakeEngine([info]))
    answer = server.post(URL, {"model": "tiny", "input": ["a"]})
    assert (answer.status, server.engine.seen[-1].inputs) == (200, ["query: a"])
    assert answer.json["data"][0]["embedding"] == pytest.approx(embedding_of("query: a").tolist())


def test_unknown_model_is_404_with_openais_body(server: Server) -> None:
    answer = server.post(URL, {"model": "gpt-9", "input": "a"})
    assert answer.status == 404
    error = answer.json["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
    assert "'gpt-9'" in error["message"] and "'tiny'" in error["message"]


def test_a_quoted_key_inside_a_text_is_no_duplicate(server: Server) -> None:
    assert server.post(URL, {"model": "tiny", "input": ['he said "input"', 'and "model"']}).status == 200


def test_lists_models(server: Server) -> None:
    answer = server.get("/v1/models")
    assert answer.json == {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": 1_700_000_000,
                "owned_by": "ridgeline",
                "task": "feature-extraction",
                "tasks": ["feature-extraction", "token-embeddings", "sentence-similarity"],
                "max_tokens": 16,
                "dim": DIM,
            }
            for name in ("tiny", "other")
        ],
    }
    assert server.get("/v1/models/other").json["id"] == "other"
    assert server.get("/v1/models/none").json["error"]["code"] == "model_not_found"


def test_a_model_loaded_later_is_found_at_once() -> None:
    server = Server(FakeEngine())
    assert server.post(URL, {"model": "late", "input": "a"}).status == 404
    server.engine.infos.append(model_info("late"))
    assert server.post(URL, {"model": "late", "input": "a"}).status == 200


def test_answers_that_are_not_finite_are_not_sent() -> None:
    server = Server()
    original = server.engine.submit

    async def poisoned(request):  # type: ignore[no-untyped-def]
        result = await original(request)
        result.outputs[0, 0] = np.nan
        return result

    server.engine.submit = poisoned  # type: ignore[method-assign]
    answer = server.post(URL, {"model": "tiny", "input": "a", "encoding_format": "base64"})
    assert (answer.status, answer.json["error"]["code"]) == (500, "execution_failed")


def test_a_model_answers_to_its_id_too(server: Server) -> None:
    answer = server.post(URL, {"model": "example/other", "input": "a"})
    assert (answer.status, server.engine.seen[-1].model) == (200, "other")
    assert server.get("/v1/models/example/other").json["id"] == "other"
