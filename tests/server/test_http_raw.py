"""Replies without JSON: float32 as it is, when the client asks."""

from typing import Any

import numpy as np
import pytest

from ridgeline_server.http.wishes import wants_raw
from tests.server.http_fakes import DIM, Server, embedding_of

RAW = "application/octet-stream"
ASKS: dict[str, Any] = {
    "/v1/embeddings": {"model": "tiny", "input": ["one", "three"]},
    "/embed": {"inputs": ["one", "three"]},
    "/models/other/embed": {"inputs": ["one", "three"]},
}


@pytest.mark.parametrize("path", ASKS)
def test_raw_replies_hold_the_rows(path: str) -> None:
    answer = Server().post(path, ASKS[path], accept=RAW)
    assert (answer.status, answer.headers["content-type"]) == (200, RAW)
    assert (answer.headers["x-shape"], answer.headers["x-dtype"]) == (f"2,{DIM}", "float32")
    assert answer.headers["x-tokens"] == "12"
    assert int(answer.headers["content-length"]) == len(answer.body) == 2 * DIM * 4
    rows = np.frombuffer(answer.body, "<f4").reshape(2, DIM)
    np.testing.assert_array_equal(rows, np.stack([embedding_of("one"), embedding_of("three")]))


def test_raw_replies_carry_teis_headers_too() -> None:
    headers = Server().post("/embed", ASKS["/embed"], accept=RAW).headers
    assert headers["x-compute-tokens"] == "12" and "server-timing" in headers


@pytest.mark.parametrize("path", ASKS)
def test_errors_stay_json(path: str) -> None:
    answer = Server().post(path, {}, accept=RAW)
    assert answer.status in (400, 422) and answer.headers["content-type"] == "application/json"
    assert "error" in answer.json


@pytest.mark.parametrize(
    ("accept", "is_raw"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", False),
        (RAW, True),
        ("Application/Octet-Stream", True),
        (f"{RAW};q=0.5", True),
        (f"{RAW};q=0", False),
        (f"{RAW}, application/json", True),
        (f"application/json, {RAW}", False),
        (f"application/json;q=0.9, {RAW}", True),
        (f"application/json, {RAW};q=0.9", False),
        (f"*/*, {RAW}", True),
        (f"{RAW}, */*;q=0.1", True),
        (f"*/*, {RAW};q=0.5", False),
        (f"application/*, {RAW}; q=1.0", True),
        (f"text/html, {RAW};charset=x;q=0.2", True),
        (f"{RAW};q=much", True),
        (f"{RAW};q=nan", True),
        (",;,=", False),
    ],
)
def test_accept_is_read_as_written(accept: str, is_raw: bool) -> None:
    assert wants_raw(accept.encode()) is is_raw
