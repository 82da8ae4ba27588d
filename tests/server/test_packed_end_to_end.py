"""A packed bundle behind a real server on a CPU: answers as of ONNX Runtime, and what it tells of itself."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from ridgeline_export.bundle import Bundle
from ridgeline_server.sequences import Float32Array
from tests.conftest import WORDS
from tests.server.running_server import RunningServer, running_server

TEXTS = [" ".join(WORDS[(index + word) % len(WORDS)] for word in range(1 + index * 7 % 50)) for index in range(60)]


@pytest.fixture(scope="module")
def server(packed_bundle: Bundle) -> Iterator[RunningServer]:
    with running_server(str(packed_bundle.path), "--variant", "packed-fp32", "--devices", "cpu") as started:
        yield started


def embed_in_crowd(server: RunningServer, **fields: object) -> Float32Array:
    """Vectors of the texts, 1 to 5 a request, 8 requests at a time."""
    starts = [*range(0, 30, 1), *range(30, len(TEXTS), 5)]
    groups = [TEXTS[start:end] for start, end in zip(starts, [*starts[1:], len(TEXTS)], strict=True)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda group: server.embed(group, **fields), groups)
        return np.concatenate([np.array(answer, np.float32) for answer in answers])


def test_answers_are_those_of_the_onnxruntime_replica(server: RunningServer, packed_bundle: Bundle) -> None:
    with running_server(
        str(packed_bundle.path), "--variant", "fp32", "--runtime", "onnxruntime", "--devices", "cpu"
    ) as other:
        for fields in ({"normalize": True}, {"normalize": False}):
            np.testing.assert_allclose(embed_in_crowd(server, **fields), embed_in_crowd(other, **fields), atol=1e-5)


def test_it_tells_what_it_is(server: RunningServer) -> None:
    server.embed(TEXTS)
    log = " ".join(server.log.read_text().split())
    assert "packed-fp32" in log and "its reference ops, which are for tests, run it slowly" in log
    assert httpx.get(f"{server.url}/info").json()["max_batch_tokens"] >= 256
    report = httpx.get(f"{server.url}/report").json()
    batch = report["batches"][0]
    assert (batch["runtime"], batch["variant"], batch["precision"]) == ("triton", "packed-fp32", "fp32")
    assert batch["shape"][0] == 1 and batch["padded_tokens"] == batch["real_tokens"] <= batch["shape"][1]
    assert batch["flops"] == batch["executed_flops"] > 0 and batch["share"] == 1.0
    assert (report["replicas"][0]["state"], report["replicas"][0]["peak_flops_per_s"]) == ("ready", None)
    metrics = httpx.get(f"{server.url}/metrics").text
    assert 'runtime="triton"' in metrics and 'variant="packed-fp32"' in metrics


def test_a_killed_worker_loses_no_request(server: RunningServer) -> None:
    expected = np.array(server.embed(TEXTS[:20]), np.float32)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answer = pool.submit(server.embed, TEXTS[:20])
        (worker,) = server.workers()
        worker.kill()
        np.testing.assert_allclose(np.array(answer.result(), np.float32), expected, atol=1e-5)
    server.wait_ready(60)
