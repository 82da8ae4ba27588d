import pytest

from tests.server.http_fakes import FakeEngine, Server, embedding_of, model_info


@pytest.fixture(scope="module")
def server() -> Server:
    return Server(max_client_batch_size=5)


def test_embed_answers_lists_of_floats(server: Server) -> None:
    answer = server.post("/embed", {"inputs": ["one", "three"]})
    assert answer.status == 200
    assert answer.json == [pytest.approx(embedding_of(text).tolist()) for text in ("one", "three")]
    assert server.post("/embed", {"inputs": "one"}).json == [pytest.approx(embedding_of("one").tolist())]


def test_embed_carries_teis_headers(server: Server) -> None:
    headers = server.post("/embed", {"inputs": ["one", "three"]}).headers
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("8", "12")
    assert headers["x-compute-type"] == "cpu+optimized"
    for phase in ("total", "tokenization", "queue", "inference"):
        assert headers[f"x-{phase}-time"].isdigit()


def test_compute_type_names_the_device() -> None:
    server = Server(FakeEngine([model_info(device="cuda")]))
    assert server.post("/embed", {"inputs": "a"}).headers["x-compute-type"] == "gpu+optimized"


@pytest.mark.parametrize(
    ("fields", "truncate", "normalize"),
    [
        ({}, None, True),
        ({"truncate": True, "normalize": False}, True, False),
        ({"truncate": False, "truncation_direction": "right"}, False, True),
        ({"truncate": None, "prompt_name": None}, None, True),
        ({"truncate": True, "truncation_direction": "Left"}, True, True),
    ],
)
def test_options_reach_the_engine(
    server: Server, fields: dict[str, object], truncate: bool | None, normalize: bool
) -> None:
    assert server.post("/embed", {"inputs": "a", **fields}).status == 200
    request = server.engine.seen[-1]
    assert (request.model, request.truncate, request.normalize) == ("tiny", truncate, normalize)


def test_other_models_have_their_own_path(server: Server) -> None:
    assert server.post("/models/other/embed", {"inputs": [1, 2]}).status == 200
    assert server.engine.seen[-1].model == "other"
    answer = server.post("/models/none/embed", {"inputs": "a"})
    assert answer.status == 404
    assert answer.json == {
        "error": "the model 'none' is not served; served are: 'tiny', 'other'",
        "error_type": "Validation",
    }


@pytest.mark.parametrize(
    ("fields", "status", "error_type", "says"),
    [
        ({"inputs": ""}, 400, "Empty", "empty text"),
        ({"inputs": []}, 400, "Empty", "empty array"),
        ({"inputs": ["a"] * 6}, 413, "Validation", "6 inputs; one request may hold 5"),
        ({"inputs": 3}, 422, "Validation", "`inputs` is 3"),
        ({"inputs": "a", "normalize": "yes"}, 422, "Validation", "give true or false"),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation", '"right"'),
        ({"inputs": "a", "prompt_name": "query"}, 422, "Validation", "no prompts"),
        ({"inputs": "a", "dimensions": 9}, 422, "Validation", "dimensions"),
        ({"inputs": [1, 1000]}, 422, "Validation", "0 to 999"),
        ({}, 422, "Validation", "`inputs` is missing"),
    ],
)
def test_refusals(server: Server, fields: dict[str, object], status: int, error_type: str, says: str) -> None:
    answer = server.post("/embed", fields)
    assert (answer.status, answer.json["error_type"]) == (status, error_type)
    assert says in answer.json["error"]
    assert answer.json.keys() == {"error", "error_type"}


def test_info_has_teis_schema(server: Server) -> None:
    answer = server.get("/info")
    assert answer.status == 200
    info = answer.json
    assert info["model_id"] == "example/tiny"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"], info["auto_truncate"]) == (16, 5, True)
    assert isinstance(info["max_concurrent_requests"], int) and isinstance(info["max_batch_tokens"], int)


def test_info_without_a_model_is_503() -> None:
    answer = Server(FakeEngine([])).get("/info")
    assert (answer.status, answer.json["error_type"], answer.headers["retry-after"]) == (503, "Unhealthy", "1")
