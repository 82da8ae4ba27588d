"""The embedded default model behind a real server: right answers, whoever they were batched with."""

from __future__ import annotations

import concurrent.futures
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.docstrings import docstrings
from tests.server.running_server import RunningServer, running_server

TEXTS = list(docstrings()[:200])


@pytest.fixture(scope="module")
def fp32(default_bundle: Path) -> Iterator[RunningServer]:
    with running_server(str(default_bundle), "--variant", "fp32") as server:
        yield server


@pytest.fixture(scope="module")
def int8(default_bundle: Path) -> Iterator[RunningServer]:
    with running_server(str(default_bundle), "--variant", "int8") as server:
        yield server


def embed_in_crowd(server: RunningServer, texts: list[str], seed: int) -> np.ndarray:
    """Vectors of texts sent in random order, 1 to 7 a request, 8 requests at a time."""
    order = list(range(len(texts)))
    rng = random.Random(seed)
    rng.shuffle(order)
    groups = []
    while order:
        size = rng.randint(1, 7)
        groups.append(order[:size])
        order = order[size:]
    vectors = np.empty((len(texts), 384), np.float32)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda group: server.embed([texts[index] for index in group]), groups)
        for group, answer in zip(groups, answers, strict=True):
            vectors[group] = answer
    return vectors


def lone_vectors(server: RunningServer, texts: list[str]) -> np.ndarray:
    return np.array([server.embed([text])[0] for text in texts], np.float32)


def test_fp32_equals_sentence_transformers(fp32: RunningServer) -> None:
    from sentence_transformers import SentenceTransformer

    from ridgeline_export.source import find_model

    reference = SentenceTransformer(str(find_model("default").directory)).encode(TEXTS, normalize_embeddings=True)
    vectors = embed_in_crowd(fp32, TEXTS, seed=0)
    cosines = (vectors * reference).sum(axis=1)
    assert cosines.min() >= 0.99999


def test_fp32_answers_do_not_depend_on_the_batch(fp32: RunningServer) -> None:
    texts = TEXTS[:50]
    alone = lone_vectors(fp32, texts)
    for seed in (1, 2):
        np.testing.assert_allclose(embed_in_crowd(fp32, texts, seed), alone, atol=1e-5)


def test_int8_answers_do_not_depend_on_the_batch(int8: RunningServer) -> None:
    texts = TEXTS[:50]
    alone = lone_vectors(int8, texts)
    crowd = embed_in_crowd(int8, texts, seed=3)
    assert (alone * crowd).sum(axis=1).min() >= 0.999


def test_int8_is_close_to_fp32(fp32: RunningServer, int8: RunningServer) -> None:
    cosines = (embed_in_crowd(fp32, TEXTS, seed=4) * embed_in_crowd(int8, TEXTS, seed=5)).sum(axis=1)
    assert cosines.mean() >= 0.99


def test_both_runtimes_agree(fp32: RunningServer, default_bundle: Path) -> None:
    texts = TEXTS[:25]
    with running_server(str(default_bundle), "--variant", "fp32", "--runtime", "onnxruntime") as other:
        np.testing.assert_allclose(lone_vectors(other, texts), lone_vectors(fp32, texts), atol=1e-5)


def test_a_long_text_is_truncated_and_the_answer_says_so(fp32: RunningServer) -> None:
    text = "ridge line " * 1000
    response = httpx.post(f"{fp32.url}/embed", json={"inputs": [text, "short"]})
    assert response.headers["X-Truncated"] == "1"
    refused = httpx.post(f"{fp32.url}/embed", json={"inputs": text, "truncate": False})
    assert refused.status_code in (413, 422)
    assert "at most 256" in refused.json()["error"]
    assert "ridgeline_truncated_inputs_total" in httpx.get(f"{fp32.url}/metrics").text


def test_usage_counts_real_tokens(fp32: RunningServer) -> None:
    body = {"model": httpx.get(f"{fp32.url}/v1/models").json()["data"][0]["id"], "input": ["Hello", "Hello, world"]}
    response = httpx.post(f"{fp32.url}/v1/embeddings", json=body)
    assert response.json()["usage"] == {"prompt_tokens": 3 + 5, "total_tokens": 3 + 5}
    assert "compute;dur=" in response.headers["Server-Timing"]


def test_the_report_relates_latency_to_flops(fp32: RunningServer) -> None:
    fp32.embed(TEXTS[:40])
    report = httpx.get(f"{fp32.url}/report").json()
    batch = report["batches"][-1]
    assert 0 < batch["flops"] <= batch["executed_flops"]
    assert batch["real_tokens"] <= batch["padded_tokens"]
    assert batch["achieved_flops_per_s"] == pytest.approx(batch["flops"] / batch["latency_s"])
    assert 0 < batch["mfu"] < 1.5
    assert batch["predicted_over_measured"] == pytest.approx(batch["predicted_s"] / batch["latency_s"])


def test_replies_tell_what_they_should_have_taken(fp32: RunningServer) -> None:
    model = httpx.get(f"{fp32.url}/v1/models").json()["data"][0]["id"]
    body = {"model": model, "input": "Hello, ridge."}
    response = httpx.post(f"{fp32.url}/v1/embeddings", json=body, headers={"X-Ridgeline-Cost": "body"})
    cost = response.json()["ridgeline"]
    assert cost["predicted_s"] > 0 and 0 < cost["share_of_peak"] < 1.5
    assert cost["measured_s"] == pytest.approx(cost["timings"]["compute_s"])
    timing = response.headers["Server-Timing"]
    assert f"predict;dur={cost['predicted_s'] * 1e3:.3f}" in timing and "mfu;desc=" in timing
    (replica,) = httpx.get(f"{fp32.url}/report").json()["replicas"]
    predicted = {tuple(each["shape"]): each["predicted_s"] for each in replica["roofline"]["shapes"]}
    assert (replica["state"], cost["predicted_s"] in predicted.values()) == ("ready", True)
