"""Whatever is sent, the answer is a 4xx in the protocol's shape, soon."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.http_fakes import Answer, Server

OPENAI = "/v1/embeddings"
TEI = "/embed"
SERVER = Server()
SOON_S = 10.0
"""A busy machine answers within it; work that grows with the square of such a request does not."""


def assert_refused(answer: Answer, path: str) -> str:
    """The message of a 4xx in the path's error shape."""
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.body) < 2000
    if path == OPENAI:
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
        message = answer.json["error"]["message"]
    else:
        assert answer.json.keys() == {"error", "error_type"}
        message = answer.json["error"]
    assert isinstance(message, str) and message
    return message


def post(path: str, inputs: bytes, **headers: str) -> Answer:
    """`inputs` is the raw JSON of the field that holds the inputs."""
    body = b'{"model": "tiny", "input": %s}' if path == OPENAI else b'{"inputs": %s}'
    return SERVER.post(path, body % inputs, **headers)


@pytest.mark.parametrize("path", [OPENAI, TEI])
@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (b"", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (b"[Infinity]", "not valid JSON"),
        (b"1e999", "not valid JSON"),
        (b'"a\0b"', "not valid JSON"),
        (b'"\\ud800"', "not valid JSON"),
        (b'"\\udc00 text"', "not valid JSON"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xff\xfe"', "not UTF-8"),
        (b'"unfinished', "not valid JSON"),
        (b'"a"}}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[" * 500 + b"]" * 500, "array"),
        (b'"a\\u0000b"', "NUL"),
        (b'["a", "b\\u0000"]', "NUL character in text 1"),
        (b'""', "empty text"),
        (b'["a", ""]', "[1]` is an empty text"),
        (b"[]", "empty array"),
        (b"[[]]", "empty array"),
        (b"[[1], []]", "[1]` is an empty array"),
        (b"null", "is null"),
        (b"true", "is true"),
        (b"1.5", "is 1.5"),
        (b"{}", "an object"),
        (b"[null]", "begins with null"),
        (b"[true, false]", "begins with true"),
        (b"[1, true]", "[1], true"),
        (b"[1, 2.0]", "[1], 2.0"),
        (b'["a", 1]', "[1], 1"),
        (b'["a", [1]]', "[1], an array"),
        (b'[["a"]]', "token ids are whole numbers"),
        (b"[[1, [2]]]", "token ids are whole numbers"),
        (b"[[1, true]]", "holds true"),
        (b"[-1]", "0 to 999"),
        (b"[1, 1000]", "the token id 1000"),
        (b"[[1], [18446744073709551615]]", "0 to 999"),
        (b"[123456789012345678901234567890]", "begins with 1.23"),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_malformed_inputs(path: str, inputs: bytes, says: str) -> None:
    assert says in assert_refused(post(path, inputs), path)


@pytest.mark.parametrize("path", [OPENAI, TEI])
@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b'"a"', b"1", b"{", b"\xef\xbb\xbf{}", b"\0", b"a=b"])
def test_bodies_that_are_no_object(path: str, body: bytes) -> None:
    assert_refused(SERVER.post(path, body), path)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (OPENAI, b'{"model": "tiny", "input": "a", "input": "b"}', "input"),
        (OPENAI, b'{"model": "other", "model": "tiny", "input": "a"}', "model"),
        (TEI, b'{"inputs": "a", "normalize": true, "normalize": false}', "normalize"),
    ],
)
def test_duplicate_keys(path: str, body: bytes, field: str) -> None:
    assert f"'{field}' is given twice" in assert_refused(SERVER.post(path, body), path)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "a"},
        {"model": None, "input": "a"},
        {"model": 1, "input": "a"},
        {"model": "", "input": "a"},
        {"model": "x" * 100_000, "input": "a"},
        {"model": "tiny"},
        {"model": "tiny", "input": "a", "encoding_format": "int8"},
        {"model": "tiny", "input": "a", "encoding_format": ["float"]},
        {"model": "tiny", "input": "a", "dimensions": 0},
        {"model": "tiny", "input": "a", "dimensions": "8"},
        {"model": "tiny", "input": "a", "dimensions": True},
        {"model": "tiny", "input": "a", "dimensions": 8.0},
        {"model": "tiny", "input": "a", "user": 1},
    ],
)
def test_wrong_fields_of_openai(fields: dict[str, Any]) -> None:
    assert_refused(SERVER.post(OPENAI, fields), OPENAI)


BIG: dict[str, tuple[int, Callable[[], bytes]]] = {
    "10-MB-text": (413, lambda: orjson.dumps("x" * 10_000_000)),
    "100k-texts": (413, lambda: orjson.dumps(["tiny text"] * 100_000)),
    "100k-wrong-types": (413, lambda: orjson.dumps([{"a": None}] * 100_000)),
    "1M-token-ids": (413, lambda: orjson.dumps([7] * 1_000_000)),
    "100k-lists": (413, lambda: orjson.dumps([[1]] * 100_000)),
    "1M-in-one-list": (413, lambda: orjson.dumps([[7] * 1_000_000])),
    "deep-objects": (422, lambda: b'{"a":' * 400_000),
    "late-mistake": (422, lambda: orjson.dumps([["a"] * 500_000])),
    "4-MB-NUL": (422, lambda: b'"%s\\u0000"' % (b"x" * 4_000_000)),
}


@pytest.mark.parametrize("path", [OPENAI, TEI])
@pytest.mark.parametrize("name", BIG)
def test_huge_requests_are_refused_soon(path: str, name: str) -> None:
    status, make = BIG[name]
    inputs = make()
    begun = time.monotonic()
    answer = post(path, inputs)
    assert time.monotonic() - begun < SOON_S
    assert_refused(answer, path)
    is_body_too_large = len(inputs) > SERVER.config.max_body_bytes
    assert answer.status == (status if path == TEI or is_body_too_large else 400)


def test_many_duplicates_are_refused_soon() -> None:
    body = b'{"inputs": "a", "x": [%s 1], "inputs": "b"}' % (b'{"a": 1, "b": "c"}, ' * 200_000)
    begun = time.monotonic()
    assert "twice" in assert_refused(SERVER.post(TEI, body), TEI)
    assert time.monotonic() - begun < SOON_S


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner), max_leaves=12
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["tiny", "other", "none"]) | values,
        "input": values,
        "inputs": values,
        "encoding_format": st.sampled_from(["float", "base64"]) | values,
        "dimensions": st.just(8) | values,
        "normalize": values,
        "truncate": values,
        "truncation_direction": st.sampled_from(["left", "right"]) | values,
        "prompt_name": values,
        "user": values,
    },
)


@given(body=near_misses | values, path=st.sampled_from([OPENAI, TEI, "/models/other/embed"]))
@settings(max_examples=400, deadline=None)
def test_any_json_is_answered_or_refused(body: object, path: str) -> None:
    raw = json.dumps(body).encode()  # unlike orjson, it writes NaN and lone surrogates
    answer = SERVER.post(path, raw)
    if answer.status != 200:
        assert_refused(answer, path)


@given(
    body=st.binary(max_size=200),
    path=st.sampled_from([OPENAI, TEI]),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "content-length", "x-request-id", "x-request-timeout"]),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
    ),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_and_headers_are_answered_or_refused(body: bytes, path: str, headers: dict[str, str]) -> None:
    answer = asyncio.run(SERVER.ask_async("POST", path, body, headers))
    if answer.status != 200:
        assert_refused(answer, path)


@given(
    body=st.sampled_from([b'{"model": "tiny", "input": ["one", "two"]}', b'{"model": "tiny", "input": [[1, 2], [3]]}']),
    at=st.integers(0, 40),
    byte=st.binary(min_size=0, max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_request_is_answered_or_refused(body: bytes, at: int, byte: bytes) -> None:
    answer = SERVER.post(OPENAI, body[:at] + byte + body[at + 1 :])
    if answer.status != 200:
        assert_refused(answer, OPENAI)


def test_the_server_still_answers() -> None:
    assert post(OPENAI, b'"a"').status == 200
    assert post(TEI, b'["a", "b"]').status == 200
