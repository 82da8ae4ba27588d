from __future__ import annotations

import json

import pytest

from ridgeline_bench.errors import UsageError
from ridgeline_bench.target import Target, parse_target


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("http://localhost:8000", None, Target("localhost", 8000, "/v1/embeddings", True)),
        ("localhost:8000/", None, Target("localhost", 8000, "/v1/embeddings", True)),
        ("http://[::1]:9/embed", None, Target("::1", 9, "/embed", False)),
        ("http://host", "/models/x/embed", Target("host", 80, "/models/x/embed", False)),
    ],
)
def test_reads_urls(url: str, path: str | None, expected: Target) -> None:
    assert parse_target(url, path) == expected


def test_a_request_tells_its_deadline_where_it_has_one() -> None:
    target = parse_target("localhost:8000", None)
    assert b"X-Request-Timeout: 2.5\r\n" in target.request(b"{}", 2.5)
    assert b"X-Request-Timeout" not in target.request(b"{}")


@pytest.mark.parametrize(
    ("url", "path", "says"),
    [
        ("https://host", None, "https is not measured"),
        ("ftp://host", None, "no http URL"),
        ("http://", None, "no http URL"),
        ("http://host:port", None, "no URL"),
        ("http://host:99999", None, "no URL"),
        ("http://host/embed", "/embed", "give one of them"),
        ("http://host", "embed", "should look like"),
        ("http://host", "/em bed", "should look like"),
        ("http://host", "/a\r\nb/embed", "should look like"),
        ("http://host", "/rerank", "no request is known for /rerank"),
    ],
)
def test_refuses_what_it_cannot_post_to(url: str, path: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_target(url, path)


def test_bodies_are_those_of_the_protocol() -> None:
    openai = Target("h", 1, "/v1/embeddings", True)
    expected = {"model": "m", "input": ["a", "ü"], "encoding_format": "base64"}
    assert json.loads(openai.body(["a", "ü"], "m")) == expected
    assert json.loads(openai.body(["a"], "m"))["input"] == "a"
    assert json.loads(Target("h", 1, "/embed", False).body(["a"], None)) == {"inputs": "a"}


def test_a_request_is_whole() -> None:
    head, _, body = Target("::1", 9, "/embed", False).request("ü".encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /embed HTTP/1.1\r\nHost: [::1]:9\r\n") and b"Content-Length: 2" in head
    assert body == "ü".encode()
