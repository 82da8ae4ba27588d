"""Every route of text-embeddings-inference, over small models of each kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ridgeline_server.errors import InputTooLongError, OverloadedError, UnavailableError
from ridgeline_server.http.catalog import Catalog
from ridgeline_server.http.tei.routes import TextEmbeddingsInference
from ridgeline_server.sequences import Side
from ridgeline_server.tasks.inputs import Query
from ridgeline_server.tasks.registry import TASKS
from tests.server.http.model_engine import ModelEngine
from tests.server.http_fakes import Answer, FakeEngine, Server, model_info

TEXTS = ["the server reads a batch", "e\u0301 \U0001f600 東京 שלום"]
PAIR = ["a query", "a text that answers it"]


@pytest.fixture(scope="module")
def engine(model_engine: ModelEngine) -> ModelEngine:
    return model_engine


@pytest.fixture(scope="module")
def server(engine: ModelEngine) -> Server:
    return Server(engine, max_client_batch_size=6)


def post(server: Server, model: str, path: str, body: Any) -> Any:
    answer = server.post(f"/models/{model}{path}", body)
    assert answer.status == 200, answer.body
    return answer.json


def asked(engine: ModelEngine, model: str, task: str, inputs: Any, **parameters: Any) -> list[Any]:
    return engine.by_name[model].ask(TASKS[task], inputs, **parameters)


def test_embeddings_take_prompts_dimensions_and_sides(server: Server, engine: ModelEngine) -> None:
    plain = asked(engine, "dense", "feature-extraction", TEXTS, normalize=True)
    np.testing.assert_allclose(post(server, "dense", "/embed", {"inputs": TEXTS}), plain, atol=1e-6)
    for options in ({"prompt_name": "query"}, {"dimensions": 5}, {"prompt_name": "passage", "dimensions": 3}):
        wanted = asked(engine, "dense", "feature-extraction", TEXTS, normalize=True, **options)
        np.testing.assert_allclose(post(server, "dense", "/embed", {"inputs": TEXTS, **options}), wanted, atol=1e-6)
        assert not np.allclose(np.array(wanted)[:, :3], np.array(plain)[:, :3])
    long = "one two three " * 200
    left, right = (
        post(server, "dense", "/embed", {"inputs": long, "truncate": True, "truncation_direction": side})
        for side in ("Left", "right")
    )
    np.testing.assert_allclose(
        left, asked(engine, "dense", "feature-extraction", [long], normalize=True, truncation="left"), atol=1e-6
    )
    np.testing.assert_allclose(right, post(server, "dense", "/embed", {"inputs": long}), atol=1e-6)
    assert not np.allclose(left, right)


def test_plain_embeddings_ask_for_nothing_else(server: Server, engine: ModelEngine) -> None:
    post(server, "dense", "/embed", {"inputs": "a", "truncation_direction": None})
    assert engine.seen[-1].reading is None and engine.seen[-1].readout is None
    post(server, "dense", "/embed", {"inputs": "a", "truncation_direction": "left"})
    assert engine.seen[-1].reading is not None and engine.seen[-1].reading.side is Side.LEFT


def test_raw_embeddings_can_be_cut(server: Server) -> None:
    answer = server.post("/embed", {"inputs": TEXTS, "dimensions": 4}, accept="application/octet-stream")
    assert answer.headers["x-shape"] == "2,4"
    rows = np.frombuffer(answer.body, "<f4").reshape(2, 4)
    np.testing.assert_allclose(rows, server.post("/embed", {"inputs": TEXTS, "dimensions": 4}).json, atol=1e-6)


def test_all_embeddings_hold_a_vector_for_each_token(server: Server, engine: ModelEngine) -> None:
    found = post(server, "dense", "/embed_all", {"inputs": TEXTS, "prompt_name": "query"})
    wanted = asked(engine, "dense", "token-embeddings", TEXTS, prompt_name="query")
    for rows, states in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, states, atol=1e-6)
    single = post(server, "dense", "/embed_all", {"inputs": [5, 6, 7]})
    assert np.shape(single)[:2] == (1, 3)


def test_sparse_embeddings_are_indices_and_values(server: Server, engine: ModelEngine) -> None:
    found = post(server, "fills", "/embed_sparse", {"inputs": TEXTS})
    wanted = asked(engine, "fills", "sparse-embeddings", TEXTS)
    assert [[term["index"] for term in terms] for terms in found] == [
        [term.index for term in terms] for terms in wanted
    ]
    assert found[0][0].keys() == {"index", "value"} and found[0][0]["value"] == pytest.approx(wanted[0][0].value)


def test_similarity_is_the_cosine_with_the_source(server: Server) -> None:
    inputs = {"source_sentence": "the server", "sentences": TEXTS}
    found = post(server, "dense", "/similarity", {"inputs": inputs, "parameters": {"prompt_name": "query"}})
    rows = np.array(post(server, "dense", "/embed", {"inputs": ["the server", *TEXTS], "prompt_name": "query"}))
    np.testing.assert_allclose(found, rows[1:] @ rows[0], atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "read", "is_single"),
    [
        ("one", ["one"], True),
        (["one"], ["one"], True),
        (PAIR, [tuple(PAIR)], True),
        ([["one"]], ["one"], False),
        ([["one"], PAIR, ["two"]], ["one", tuple(PAIR), "two"], False),
    ],
)
def test_predictions_are_flat_for_one_input(
    server: Server, engine: ModelEngine, inputs: Any, read: list[Any], is_single: bool
) -> None:
    found = post(server, "classes", "/predict", {"inputs": inputs})
    wanted = [
        [{"label": one.label, "score": pytest.approx(one.score, abs=1e-6)} for one in classes]
        for classes in asked(engine, "classes", "text-classification", read)
    ]
    assert found == (wanted[0] if is_single else wanted)


def test_raw_scores_are_logits(server: Server, engine: ModelEngine) -> None:
    found = {
        one["label"]: one["score"] for one in post(server, "classes", "/predict", {"inputs": "a", "raw_scores": True})
    }
    chances = {one["label"]: one["score"] for one in post(server, "classes", "/predict", {"inputs": "a"})}
    total = sum(math.exp(score) for score in found.values())
    assert chances == {label: pytest.approx(math.exp(score) / total, abs=1e-6) for label, score in found.items()}
    (one,) = post(server, "ranks", "/predict", {"inputs": PAIR, "raw_scores": True})
    assert post(server, "ranks", "/predict", {"inputs": PAIR})[0]["score"] == pytest.approx(
        1 / (1 + math.exp(-one["score"])), abs=1e-6
    )


def test_ranks_are_sorted_and_tell_texts_on_demand(server: Server, engine: ModelEngine) -> None:
    texts = ["a", "something else \U0001f600", "the server", "東京"]
    found = post(server, "ranks", "/rerank", {"query": "the server", "texts": texts, "unknown": 1})
    (wanted,) = asked(engine, "ranks", "text-ranking", Query("the server", tuple(texts)))
    assert found == [{"index": rank.index, "score": pytest.approx(rank.score, abs=1e-6)} for rank in wanted]
    raw = post(
        server, "ranks", "/rerank", {"query": "the server", "texts": texts, "raw_scores": True, "return_text": True}
    )
    assert [rank["text"] for rank in raw] == [texts[rank["index"]] for rank in raw]
    assert [rank["index"] for rank in raw] == [rank.index for rank in wanted]


def test_headers_count_characters_and_tokens(server: Server, engine: ModelEngine) -> None:
    headers = server.post("/models/ranks/rerank", {"query": "ab", "texts": ["\U0001f600", "abc"]}).headers
    assert headers["x-compute-characters"] == "8" and int(headers["x-compute-tokens"]) >= 8
    assert headers["x-compute-type"] == "cpu+optimized" and headers["x-inference-time"].isdigit()


@pytest.mark.parametrize("add_special_tokens", [True, False, None])
def test_tokens_stand_where_they_say(server: Server, add_special_tokens: bool | None) -> None:
    text = "cafe\u0301 \U0001f600 東京 " + "the server " * 300
    body = {"inputs": [text, "a"], "add_special_tokens": add_special_tokens}
    tokens, short = post(server, "dense", "/tokenize", body)
    own = [token for token in tokens if not token["special"]]
    assert len(own) > 600, "nothing is cut off"
    assert all(token["text"] == text[token["start"] : token["stop"]] for token in own)
    special = [token for token in short if token["special"]]
    assert [token["text"] for token in special] == ([] if add_special_tokens is False else ["[CLS]", "[SEP]"])
    assert all(token["start"] is None and token["stop"] is None for token in special)
    ids = [token["id"] for token in short]
    decoded = post(server, "dense", "/decode", {"ids": [ids, ids]})
    assert decoded == ["a", "a"]
    kept = post(server, "dense", "/decode", {"ids": ids, "skip_special_tokens": False})
    assert kept == ["a" if add_special_tokens is False else "[CLS] a [SEP]"]


def test_tokens_of_prompts_are_told_too(server: Server) -> None:
    (tokens,) = post(server, "dense", "/tokenize", {"inputs": "a", "prompt_name": "query"})
    assert "".join(token["text"] for token in tokens if not token["special"]) == "query:a"
    assert tokens[-2]["start"] == len("query: ")


KINDS = {
    "dense": {"embedding": {"pooling": "mean"}},
    "classes": {"classifier": {"id2label": {"0": "good", "1": "bad"}, "label2id": {"good": 0, "bad": 1}}},
    "ranks": {"reranker": {"id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}},
    "sparse": {"embedding": {"pooling": "splade"}},
    "fills": {"fill-mask": {}},
    "answers": {"question-answering": {}},
}


@pytest.mark.parametrize("model", KINDS)
def test_info_tells_the_kind(server: Server, model: str) -> None:
    assert server.get(f"/models/{model}/info").json["model_type"] == KINDS[model]
    assert server.get(f"/models/{model}/health").status == 200


def test_models_without_a_replica_are_unhealthy(server: Server) -> None:
    down = Server(FakeEngine(unavailable=UnavailableError("model 'tiny' has no replica", 2.0)))
    answer = down.get("/models/tiny/health")
    assert (answer.status, answer.json["error_type"]) == (503, "Unhealthy")
    assert down.get("/health").status == down.get("/ping").status == 200
    assert server.get("/models/none/health").status == 404


QUERY = {"query": "a", "texts": ["b"]}
SENTENCES = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}


@pytest.mark.parametrize(
    ("model", "path", "body", "says"),
    [
        ("classes", "/embed", {"inputs": "a"}, "is not an embedding model"),
        ("fills", "/embed_all", {"inputs": "a"}, "is not an embedding model"),
        ("ranks", "/similarity", SENTENCES, "is not an embedding model"),
        ("dense", "/embed_sparse", {"inputs": "a"}, "SPLADE"),
        ("dense", "/predict", {"inputs": "a"}, "is not a classifier model"),
        ("classes", "/rerank", QUERY, "is not a re-ranker model"),
        ("entities", "/rerank", QUERY, "is not a re-ranker model"),
    ],
)
def test_models_that_are_not_for_it_answer_424(server: Server, model: str, path: str, body: Any, says: str) -> None:
    answer = server.post(f"/models/{model}{path}", body)
    assert (answer.status, answer.json["error_type"]) == (424, "Backend")
    assert says in answer.json["error"] and repr(model) in answer.json["error"]


@pytest.mark.parametrize(
    ("model", "path", "body", "status", "says"),
    [
        ("dense", "/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "`truncation_direction` is 'up'"),
        ("dense", "/embed", {"inputs": "a", "prompt_name": 3}, 422, "`prompt_name` is 3"),
        ("dense", "/embed", {"inputs": "a", "prompt_name": "none"}, 422, "'query', 'passage'"),
        ("dense", "/embed", {"inputs": [1], "prompt_name": "query"}, 422, "token ids"),
        ("dense", "/embed_all", {}, 422, "`inputs` is missing"),
        ("dense", "/embed_all", {"inputs": ["a"] * 7}, 413, "7 inputs"),
        ("fills", "/embed_sparse", {"inputs": ["a", ""]}, 400, "empty text"),
        ("dense", "/similarity", {"inputs": "a"}, 422, "source_sentence"),
        ("dense", "/similarity", {"inputs": {"sentences": ["a"]}}, 422, "`inputs.source_sentence` is missing"),
        ("dense", "/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty array"),
        ("dense", "/similarity", {"inputs": {"source_sentence": "a", "sentences": [1]}}, 422, "sentences[0]"),
        ("dense", "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"] * 6}}, 413, "7 sentences"),
        ("dense", "/similarity", {**SENTENCES, "parameters": 3}, 422, "`parameters` is 3"),
        ("classes", "/predict", {"inputs": []}, 400, "empty array"),
        ("classes", "/predict", {"inputs": [[]]}, 422, "array of 0 texts"),
        ("classes", "/predict", {"inputs": ["a", "b", "c"]}, 422, "array of 3 texts"),
        ("classes", "/predict", {"inputs": [["a"], "b"]}, 422, "`inputs[1]` is 'b'"),
        ("classes", "/predict", {"inputs": ["a", None]}, 422, "holds null"),
        ("classes", "/predict", {"inputs": 3}, 422, "holds 3"),
        ("classes", "/predict", {"inputs": [["a\u0000"]]}, 422, "NUL"),
        ("classes", "/predict", {"inputs": [["a"]] * 7}, 413, "7 inputs"),
        ("classes", "/predict", {"inputs": "a", "raw_scores": 1}, 422, "`raw_scores` is 1"),
        ("ranks", "/rerank", {"query": "a", "texts": []}, 400, "empty array"),
        ("ranks", "/rerank", {"query": "", "texts": ["a"]}, 400, "empty text"),
        ("ranks", "/rerank", {"query": "a", "texts": "b"}, 422, "`texts` is 'b'"),
        ("ranks", "/rerank", {"texts": ["b"]}, 422, "`query` is missing"),
        ("ranks", "/rerank", {"query": "a", "texts": ["b"] * 7}, 413, "7 inputs"),
        ("dense", "/tokenize", {"inputs": [1, 2]}, 422, "token ids"),
        ("dense", "/tokenize", {"inputs": "a", "add_special_tokens": "no"}, 422, "`add_special_tokens` is 'no'"),
        ("dense", "/decode", {"ids": []}, 400, "empty array"),
        ("dense", "/decode", {"ids": ["a"]}, 422, "with a text"),
        ("dense", "/decode", {"ids": "a"}, 422, "`ids` is 'a'"),
        ("dense", "/decode", {"ids": [[1], [-1]]}, 422, "token id -1"),
        ("dense", "/decode", {"ids": [10**12]}, 422, "ids are 0 to"),
    ],
)
def test_refusals(server: Server, model: str, path: str, body: Any, status: int, says: str) -> None:
    answer: Answer = server.post(f"/models/{model}{path}", body)
    assert (answer.status, answer.json.keys()) == (status, {"error", "error_type"}), answer.body
    assert says in answer.json["error"], answer.json


def test_long_inputs_are_refused_on_demand(server: Server) -> None:
    for path, body in (("/predict", {"inputs": "a " * 400}), ("/predict", {"inputs": ["a " * 400, "b"]})):
        answer = server.post(f"/models/classes{path}", {**body, "truncate": False, "truncation_direction": "left"})
        assert (answer.status, answer.json["error_type"]) == (413, "Validation")


@pytest.mark.parametrize(("error", "status"), [(OverloadedError("full", 3.0), 429), (InputTooLongError("long"), 413)])
def test_errors_of_the_engine_have_teis_shape(error: Exception, status: int) -> None:
    server = Server(FakeEngine([model_info(task="text-classification", labels=("a",))]))
    server.engine.fail_with(error)
    answer = server.post("/predict", {"inputs": "a"})
    assert (answer.status, answer.json.keys()) == (status, {"error", "error_type"})


def test_every_route_stands_for_the_first_model_too(server: Server) -> None:
    for path in TextEmbeddingsInference.handlers(server_tei(server)):
        answer = server.post(path, {})
        assert answer.status in (422, 424), path


def server_tei(server: Server) -> TextEmbeddingsInference:
    return TextEmbeddingsInference(server.engine, Catalog(server.engine), server.config)
