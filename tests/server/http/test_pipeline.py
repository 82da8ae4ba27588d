"""`POST /` and `POST /models/{name}`, asked by huggingface_hub's InferenceClient, and as TEI is asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import uvicorn
from huggingface_hub.errors import HfHubHTTPError

from ridgeline_server.tasks.inputs import Query, Question, Sentences
from ridgeline_server.tasks.registry import TASKS
from tests.server.http.model_engine import ModelEngine
from tests.server.http_fakes import Server

TEXT = "the server reads café \U0001f600 東京"
LABELS = ["delivery", "price", "\U0001f600"]


@pytest.fixture(scope="module")
def server(model_engine: ModelEngine) -> Server:
    return Server(model_engine)


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.app, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    running.should_exit = True
    thread.join(10)
    listener.close()


def client(url: str, model: str | None = None) -> huggingface_hub.InferenceClient:
    where = url if model is None else f"{url}/models/{model}"
    return huggingface_hub.InferenceClient(where, provider="hf-inference", token="unused", timeout=30)


def asked(engine: ModelEngine, model: str, task: str, inputs: Any, **parameters: Any) -> Any:
    return engine.by_name[model].ask(TASKS[task], inputs, **parameters)


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-6)


def test_client_extracts_features(url: str, model_engine: ModelEngine) -> None:
    for options in (
        {},
        {"normalize": False},
        {"prompt_name": "query", "dimensions": 5, "truncation_direction": "left"},
    ):
        found = client(url).feature_extraction(TEXT, **options)
        wanted = {name: value for name, value in options.items() if name != "truncation_direction"}
        rows = asked(model_engine, "dense", "feature-extraction", [TEXT], **({"normalize": True} | wanted))
        np.testing.assert_allclose(found, rows, atol=1e-6)


def test_client_compares_sentences(url: str, model_engine: ModelEngine) -> None:
    found = client(url).sentence_similarity(TEXT, other_sentences=["a server", "東京"])
    (wanted,) = asked(model_engine, "dense", "sentence-similarity", Sentences(TEXT, ("a server", "東京")))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_client_classifies_texts(url: str, model_engine: ModelEngine) -> None:
    for options in ({}, {"top_k": 1}, {"function_to_apply": "none"}):
        found = client(url, "classes").text_classification(TEXT, **options)
        (wanted,) = asked(model_engine, "classes", "text-classification", [TEXT], **options)
        assert [(one.label, one.score) for one in found] == [(one.label, near(one.score)) for one in wanted]


def test_client_classifies_zero_shot(url: str, model_engine: ModelEngine) -> None:
    for options in ({}, {"multi_label": True}, {"hypothesis_template": "It is about {}."}):
        found = client(url, "entails").zero_shot_classification(TEXT, LABELS, **options)
        (wanted,) = asked(
            model_engine, "entails", "zero-shot-classification", [TEXT], candidate_labels=tuple(LABELS), **options
        )
        assert [one.label for one in found] == wanted.labels
        assert [one.score for one in found] == [near(score) for score in wanted.scores]


def test_client_finds_entities(url: str, model_engine: ModelEngine) -> None:
    everything: dict[str, Any] = {"ignore_labels": []}
    for options in (everything, everything | {"aggregation_strategy": "none"}):
        found = client(url, "entities").token_classification(TEXT, **options)
        (wanted,) = asked(model_engine, "entities", "token-classification", [TEXT], **(options | {"ignore_labels": ()}))
        assert found and [(one.start, one.end, one.word) for one in found] == [
            (one.start, one.end, one.word) for one in wanted
        ]
        names = [one.entity if options.get("aggregation_strategy") else one.entity_group for one in found]
        assert None not in names


def test_client_answers_questions(url: str, model_engine: ModelEngine) -> None:
    found: Any = client(url, "answers").question_answering(question="what reads?", context=TEXT)
    (wanted,) = asked(model_engine, "answers", "question-answering", [Question("what reads?", TEXT)])
    assert (found.answer, found.start, found.end) == (wanted.answer, wanted.start, wanted.end)
    assert found.score == near(wanted.score)
    several = client(url, "answers").question_answering(
        question="what reads?", context=TEXT, top_k=3, align_to_words=False, max_answer_len=4
    )
    assert len(several) == 3 and several[0].score >= several[1].score


def test_client_fills_masks(url: str, model_engine: ModelEngine) -> None:
    mask = model_engine.by_name["fills"].info.mask_token
    several: dict[str, Any] = {"top_k": 2}
    for options in ({}, several):
        found = client(url, "fills").fill_mask(f"the {mask} reads", **options)
        (wanted,) = asked(model_engine, "fills", "fill-mask", [f"the {mask} reads"], **options)
        assert [(one.token, one.token_str, one.sequence) for one in found] == [
            (one.token, one.token_str, one.sequence) for one in wanted
        ]


def test_client_asks_for_health_and_facts(url: str) -> None:
    assert client(url).health_check() and client(url, "classes").health_check()
    assert client(url).get_endpoint_info()["model_id"] == "example/tiny"
    assert "classifier" in client(url, "classes").get_endpoint_info()["model_type"]


def test_client_is_told_of_mistakes(url: str) -> None:
    with pytest.raises(HfHubHTTPError, match="422"):
        client(url, "classes").text_classification(TEXT, top_k=0)
    with pytest.raises(HfHubHTTPError, match="404"):
        client(url, "none").text_classification(TEXT)
    with pytest.raises(HfHubHTTPError, match="424"):
        client(url, "answers").sentence_similarity("a", other_sentences=["b"])


@pytest.mark.parametrize(
    ("model", "body", "path"),
    [
        ("dense", {"inputs": [TEXT, "a"]}, "/embed"),
        ("dense", {"inputs": TEXT, "normalize": False, "dimensions": 4}, "/embed"),
        ("dense", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "/similarity"),
        ("classes", {"inputs": TEXT}, "/predict"),
        ("classes", {"inputs": ["a", "b"], "raw_scores": True}, "/predict"),
        ("classes", {"inputs": [["a"], ["b", "c"]]}, "/predict"),
        ("ranks", {"query": "a", "texts": ["b", "c"]}, "/rerank"),
        ("ranks", {"inputs": ["a", "b"]}, "/predict"),
        ("sparse", {"inputs": [TEXT, "a"]}, "/embed_sparse"),
    ],
)
def test_bodies_of_tei_are_answered_as_its_routes(server: Server, model: str, body: Any, path: str) -> None:
    wanted = server.post(f"/models/{model}{path}", body)
    found = server.post(f"/models/{model}", body)
    assert found.status == wanted.status == 200
    assert found.json == wanted.json
    assert found.headers["x-compute-tokens"] == wanted.headers["x-compute-tokens"]


def test_parameters_can_stand_beside_embeddings_inputs(server: Server) -> None:
    options = {"normalize": False, "dimensions": 4}
    wanted = server.post("/embed", {"inputs": TEXT, **options}).json
    for url in ("/", "/invocations", "/models/dense"):
        assert server.post(url, {"inputs": TEXT, "parameters": options}).json == wanted


def test_arrays_are_answered_in_arrays(server: Server, model_engine: ModelEngine) -> None:
    mask = model_engine.by_name["fills"].info.mask_token
    for model, given, parameters in (
        ("classes", TEXT, {}),
        ("entails", TEXT, {"candidate_labels": "price, quality"}),
        ("entities", TEXT, {}),
        ("answers", {"question": "what?", "context": TEXT}, {"top_k": 2}),
        ("fills", f"a {mask}", {}),
    ):
        single = server.post(f"/models/{model}", {"inputs": given, "parameters": parameters})
        several = server.post(f"/models/{model}", {"inputs": [given, given], "parameters": parameters})
        assert single.status == several.status == 200, single.body
        wanted = single.json[0] if model == "classes" else single.json
        for found in several.json:
            assert _rounded(found) == _rounded(wanted), model


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 4) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("model", "body", "status", "says"),
    [
        ("classes", {"inputs": "a", "parameters": 3}, 422, "`parameters` is 3"),
        ("classes", {"inputs": "a", "parameters": {"topk": 1}}, 422, "'parameters.topk' is unknown"),
        (
            "dense",
            {"inputs": "a", "parameters": {"inputs": "b"}},
            422,
            "'parameters.inputs' is unknown; allowed: normal",
        ),
        ("dense", {"inputs": "a", "parameters": {"normalise": True}}, 422, "'parameters.normalise' is unknown"),
        ("classes", {"parameters": {}}, 422, "`inputs` is missing"),
        ("entities", {}, 422, "`inputs` is missing"),
        ("answers", {"inputs": "a"}, 422, "question"),
        ("fills", {"inputs": "no mask"}, 422, "mask"),
        ("classes", {"query": "a", "texts": ["b"]}, 424, "not a re-ranker"),
        ("classes", {"inputs": "a", "parameters": {"candidate_labels": ["b"]}}, 422, "entailment"),
        ("entails", {"inputs": "a", "parameters": {"candidate_labels": []}}, 422, "candidate_labels"),
    ],
)
def test_refusals(server: Server, model: str, body: Any, status: int, says: str) -> None:
    answer = server.post(f"/models/{model}", body)
    assert (answer.status, answer.json.keys()) == (status, {"error", "error_type"}), answer.body
    assert says in answer.json["error"]


def test_rankings_need_no_other_route(server: Server, model_engine: ModelEngine) -> None:
    found = server.post("/models/ranks", {"query": TEXT, "texts": ["a", "b"], "return_text": True}).json
    (wanted,) = asked(model_engine, "ranks", "text-ranking", Query(TEXT, ("a", "b")))
    assert [rank["index"] for rank in found] == [rank.index for rank in wanted] and "text" in found[0]
