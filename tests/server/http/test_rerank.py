"""`/v1/rerank` and `/v2/rerank`: one answer that clients of Cohere and of Jina read."""

from __future__ import annotations

from typing import Any

import pytest

from ridgeline_server.errors import ExecutionError, OverloadedError
from ridgeline_server.tasks.inputs import Query
from ridgeline_server.tasks.registry import TASKS
from tests.server.http.model_engine import ModelEngine
from tests.server.http_fakes import FakeEngine, Server, model_info

QUERY = "the server reads"
DOCUMENTS = ["a batch of tokens", "\U0001f600 東京", "the server reads numbers", "naïve café"]
BOTH = pytest.mark.parametrize("url", ["/v1/rerank", "/v2/rerank"])


@pytest.fixture(scope="module")
def server(model_engine: ModelEngine) -> Server:
    return Server(model_engine, max_client_batch_size=200)


def scores(engine: ModelEngine, texts: list[str]) -> list[tuple[int, Any]]:
    (ranks,) = engine.by_name["ranks"].ask(TASKS["text-ranking"], Query(QUERY, tuple(texts)))
    return [(rank.index, pytest.approx(rank.score, abs=1e-6)) for rank in ranks]


def found(answer: dict[str, Any]) -> list[tuple[int, float]]:
    return [(result["index"], result["relevance_score"]) for result in answer["results"]]


@BOTH
def test_answers_hold_what_both_clients_read(server: Server, model_engine: ModelEngine, url: str) -> None:
    answer = server.post(url, {"model": "ranks", "query": QUERY, "documents": DOCUMENTS, "unknown": 1})
    assert answer.status == 200, answer.body
    body = answer.json
    assert found(body) == scores(model_engine, DOCUMENTS)
    assert body["model"] == "ranks" and len(body["id"]) == 36
    tokens = body["usage"]["total_tokens"]
    assert body["usage"]["prompt_tokens"] == tokens > 20
    assert body["meta"] == {
        "api_version": {"version": url[2]},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }


@pytest.mark.parametrize(
    ("url", "asked", "is_told"),
    [
        ("/v1/rerank", None, True),
        ("/v2/rerank", None, False),
        ("/v1/rerank", False, False),
        ("/v2/rerank", True, True),
    ],
)
def test_documents_come_back_as_asked(server: Server, url: str, asked: bool | None, is_told: bool) -> None:
    documents = ["a", {"text": "b", "id": 7}]
    body = {"query": QUERY, "documents": documents, "return_documents": asked}
    told = {result["index"]: result.get("document") for result in server.post(url, body).json["results"]}
    assert told == ({0: {"text": "a"}, 1: {"text": "b", "id": 7}} if is_told else {0: None, 1: None})


@BOTH
def test_top_n_keeps_the_best(server: Server, model_engine: ModelEngine, url: str) -> None:
    for top_n, count in ((1, 1), (3, 3), (50, 4)):
        body = {"query": QUERY, "documents": DOCUMENTS, "top_n": top_n}
        assert found(server.post(url, body).json) == scores(model_engine, DOCUMENTS)[:count]


def test_searches_are_counted_by_the_hundred(server: Server) -> None:
    body = {"query": "a", "documents": ["b"] * 101, "top_n": 1}
    assert server.post("/v2/rerank", body).json["meta"]["billed_units"] == {"search_units": 2}


def test_fields_of_documents_are_read_as_asked(server: Server, model_engine: ModelEngine) -> None:
    documents = [{"title": "the server", "text": "a batch"}, {"title": "東京", "other": 3}]
    body = {"query": QUERY, "documents": documents, "rank_fields": ["title", "text"]}
    read = ["title: the server\ntext: a batch", "title: 東京"]
    assert found(server.post("/v1/rerank", body).json) == scores(model_engine, read)
    body["rank_fields"] = ["title"]
    assert found(server.post("/v1/rerank", body).json) == scores(model_engine, ["the server", "東京"])


def test_documents_are_cut_to_so_many_tokens(server: Server, model_engine: ModelEngine) -> None:
    tokenizer = model_engine.by_name["ranks"].tokenizer
    documents = ["the server reads a batch " * 9, "東京 \U0001f600 café " * 9, "short"]
    for most in (1, 4, 7):
        read = []
        for document in documents:
            (encoding,) = tokenizer.encode_whole([document], special_tokens=False)
            read.append(document[: encoding.offsets[:most].max()])
        body = {"query": QUERY, "documents": documents, "max_tokens_per_doc": most}
        assert found(server.post("/v2/rerank", body).json) == scores(model_engine, read)
        assert model_engine.seen[-1].inputs == [(QUERY, text) for text in read]


def test_without_a_name_the_first_model_that_ranks_answers(server: Server) -> None:
    assert server.post("/v1/rerank", {"query": "a", "documents": ["b"]}).json["model"] == "ranks"
    lone = Server(FakeEngine([model_info()]))
    answer = lone.post("/v1/rerank", {"query": "a", "documents": ["b"]})
    assert answer.status == 400 and "is not a re-ranker model" in answer.json["message"]


def test_the_cost_can_stand_in_the_body(server: Server) -> None:
    body = {"query": "a", "documents": ["b"]}
    assert "ridgeline" not in server.post("/v1/rerank", body).json
    assert "timings" in server.post("/v1/rerank", body, x_ridgeline_cost="body").json["ridgeline"]


@BOTH
@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"query": None}, 400, "`query` is null"),
        ({"documents": []}, 400, "empty array"),
        ({"documents": "a"}, 400, "`documents` is 'a'"),
        ({"documents": ["a", 3]}, 400, "`documents[1]` is 3"),
        ({"documents": ["a", ""]}, 400, "empty text"),
        ({"documents": ["a", "\0"]}, 400, "NUL"),
        ({"documents": [{"image": "…"}]}, 400, "none of the fields 'text'"),
        ({"documents": [{"text": 3}]}, 400, "`documents[0].text` is 3"),
        ({"documents": ["a"] * 201}, 413, "201 inputs"),
        ({"top_n": 0}, 400, "`top_n` is 0"),
        ({"top_n": True}, 400, "`top_n` is true"),
        ({"max_tokens_per_doc": 1.5}, 400, "`max_tokens_per_doc` is 1.5"),
        ({"return_documents": "yes"}, 400, "`return_documents` is 'yes'"),
        ({"rank_fields": []}, 400, "`rank_fields` is an array"),
        ({"documents": [{"t": "x"}], "rank_fields": ["t", "u", "t"]}, 400, "3 names, 2 different ones"),
        ({"documents": [{"1": "x"}], "rank_fields": [str(each) for each in range(33)]}, 400, "at most 32"),
        ({"model": 3}, 400, "`model` is 3"),
        ({"model": "none"}, 404, "'none' is not served"),
        ({"model": "classes"}, 400, "is not a re-ranker model"),
        ({"model": "dense"}, 400, "is not a re-ranker model"),
    ],
)
def test_refusals(server: Server, url: str, fields: dict[str, Any], status: int, says: str) -> None:
    answer = server.post(url, {"query": "a", "documents": ["b"], **fields})
    assert answer.status == status, answer.body
    assert answer.json.keys() == {"message", "detail"} and answer.json["message"] == answer.json["detail"]
    assert says in answer.json["message"]


@pytest.mark.parametrize(("error", "status"), [(OverloadedError("full", 3.0), 429), (ExecutionError("failed"), 500)])
def test_errors_of_the_engine_have_the_same_shape(error: Exception, status: int) -> None:
    server = Server(FakeEngine([model_info(task="text-classification", labels=("a",))]))
    server.engine.fail_with(error)
    answer = server.post("/v2/rerank", {"query": "a", "documents": ["b"]})
    assert (answer.status, answer.json.keys()) == (status, {"message", "detail"})
    assert server.get("/v2/rerank").json.keys() == {"message", "detail"}
