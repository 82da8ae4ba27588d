"""Compressed bodies: taken in bounded steps, and what is over the limit is never there."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import orjson
import pytest

from ridgeline_server.http import decompression
from tests.server.http_fakes import Answer, Server, drive

BODY = orjson.dumps({"inputs": ["a text"] * 50})
JSON = {"content-type": "application/json"}


def post(body: bytes, encoding: str, server: Server | None = None, chunk: int = 1 << 30) -> Answer:
    server = server or Server()
    chunks = [body[at : at + chunk] for at in range(0, len(body), chunk)] or [b""]
    answer = asyncio.run(drive(server.app, "POST", "/embed", chunks, {**JSON, "content-encoding": encoding}))
    assert server.app.budget.used == 0
    return answer


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("GZIP ", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)],
)
def test_gzip_and_deflate_are_as_the_plain_body(encoding: str, compress: Any, chunk: int) -> None:
    answer = post(compress(BODY), encoding, chunk=chunk)
    assert (answer.status, answer.body) == (200, Server().post("/embed", BODY).body)


def test_a_body_of_several_gzip_files_is_one() -> None:
    parts = [gzip.compress(BODY[:40]), gzip.compress(b""), gzip.compress(BODY[40:])]
    assert post(b"".join(parts), "gzip").status == 200
    assert post(b"".join(parts), "gzip", chunk=3).status == 200


@pytest.mark.parametrize("step", [100, 1 << 20])
@pytest.mark.parametrize("on_loop", [0, 1 << 30])
def test_long_bodies_come_in_steps_on_the_loop_and_off_it(
    monkeypatch: pytest.MonkeyPatch, step: int, on_loop: int
) -> None:
    monkeypatch.setattr(decompression, "STEP_BYTES", step)
    monkeypatch.setattr(decompression, "_MOST_ON_LOOP_BYTES", on_loop)
    body = orjson.dumps({"inputs": ["x" * 900, "a" * 357 + "b" * 258]})
    for pad in range(0, 300, 37):  # steps end at each place of a stream, within a repetition too
        padded = body + b" " * pad
        assert post(zlib.compress(padded), "deflate").status == 200
        assert post(gzip.compress(padded), "gzip", chunk=11).status == 200


def test_the_limit_counts_what_comes_out() -> None:
    server = Server(max_body_bytes=len(BODY))
    assert post(gzip.compress(BODY), "gzip", server).status == 200
    answer = post(gzip.compress(BODY + b" "), "gzip", server)
    assert (answer.status, answer.json["error_type"]) == (413, "Validation")
    assert f"{len(BODY)} bytes" in answer.json["error"]


def test_a_bomb_is_413_and_what_it_holds_is_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    step = decompression._Stream.step

    def counted(self: Any, data: bytes, most: int) -> tuple[bytes, bytes]:
        nonlocal made
        part, rest = step(self, data, most)
        made += len(part)
        return part, rest

    monkeypatch.setattr(decompression._Stream, "step", counted)
    bomb = gzip.compress(bytes(50_000_000))
    server = Server(max_body_bytes=1_000_000)
    assert post(bomb, "gzip", server).status == 413
    assert 1_000_000 < made <= 1_000_000 + 1
    assert post(bomb, "gzip", Server(max_body_bytes=1_000_000), chunk=999).status == 413
    assert made <= 2_000_002


def test_a_bomb_of_bombs_and_a_chain_of_nothings_are_refused() -> None:
    assert post(gzip.compress(gzip.compress(bytes(10_000_000))), "gzip").status in (400, 413, 422)
    assert post(gzip.compress(b"") * 5000, "gzip").status == 400


def test_the_budget_holds_what_comes_out() -> None:
    server = Server(max_body_bytes=10_000, max_queue_bytes=10_000)
    server.app.budget.take(9_000)
    answer = asyncio.run(
        drive(server.app, "POST", "/embed", [gzip.compress(bytes(2000))], {**JSON, "content-encoding": "gzip"})
    )
    assert (answer.status, answer.headers["retry-after"], server.app.budget.used) == (429, "1", 9_000)


def test_an_overlong_stream_that_makes_nothing_is_413() -> None:
    header = gzip.compress(b"")[:10]
    named = header[:3] + b"\x08" + header[4:] + b"n" * 5000 + b"\0"  # a file name as long as one likes
    assert post(named, "gzip", Server(max_body_bytes=4000), chunk=100).status == 413


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "gzip"),
        (b"", "deflate"),
        (BODY, "gzip"),
        (BODY, "deflate"),
        (gzip.compress(BODY), "deflate"),
        (zlib.compress(BODY), "gzip"),
        (gzip.compress(BODY)[:-1], "gzip"),
        (gzip.compress(BODY)[:20], "gzip"),
        (zlib.compress(BODY)[:-2], "deflate"),
        (gzip.compress(BODY)[:-8] + bytes(8), "gzip"),
        (zlib.compress(BODY) + b"x", "deflate"),
        (gzip.compress(BODY) + b"garbage", "gzip"),
        (gzip.compress(BODY) + b"\x1f\x8b", "gzip"),
    ],
    ids=range(13),  # gzip's bytes hold the time
)
@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_garbage_and_truncated_streams_are_400(body: bytes, encoding: str, chunk: int) -> None:
    answer = post(body, encoding, chunk=chunk)
    assert answer.status == 400 and encoding in answer.json["error"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip,br", "identity, gzip", "x" * 500])
def test_other_and_several_encodings_are_415(encoding: str) -> None:
    answer = post(gzip.compress(BODY), encoding)
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate")


def test_an_encoding_that_is_given_twice_is_415() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("its body is not read")

    headers = [(b"content-type", b"application/json"), *[(b"content-encoding", b"gzip")] * 2]
    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": headers}
    asyncio.run(Server().app(scope, receive, send))
    assert sent[0]["status"] == 415


@pytest.mark.parametrize("encoding", ["identity", " Identity", ""])
def test_identity_is_no_encoding(encoding: str) -> None:
    assert post(BODY, encoding).status == 200


async def test_a_client_that_leaves_while_it_sends_is_forgotten() -> None:
    server = Server()
    messages = [
        {"type": "http.request", "body": gzip.compress(BODY)[:30], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(_: Any) -> None:
        raise AssertionError("nobody listens")

    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    await server.app({"type": "http", "method": "POST", "path": "/embed", "headers": headers}, receive, send)
    assert server.app.budget.used == 0 and not server.engine.seen
