"""What the log says of requests, and that users' texts are never in it unless it may have them."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from rich.logging import RichHandler

from ridgeline_server import logs
from ridgeline_server.errors import OverloadedError
from ridgeline_server.http.notes import MOST_TEXT_BYTES
from ridgeline_server.logs import DiscreetFormatter, JsonHandler, LineWriter, set_up_text
from ridgeline_server.request import Request
from ridgeline_server.security.key_file import add_key
from tests.server.http_fakes import Server
from tests.server.locked import BEARER, LockedServer
from tests.server.running_server import running_server

TEXT = "a secret ünïcode text 🙂"


class Log:
    """A JSON log into a pipe."""

    def __init__(self, has_texts: bool = False) -> None:
        self._reading, self._writing = os.pipe()
        self.handler = JsonHandler(LineWriter(self._writing), has_texts)

    def lines(self) -> list[dict[str, Any]]:
        """Everything that was written; it is closed then."""
        self.handler.close()
        os.close(self._writing)
        with os.fdopen(self._reading, "rb") as file:
            return [json.loads(line) for line in file]


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """A logger of its own for handlers."""
    logger = logging.getLogger("tests.logs")
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def test_each_request_has_a_line_when_it_is_over() -> None:
    log = Log()
    server = LockedServer(log=log.handler)
    server.post("/embed", {"inputs": [TEXT, "b"]}, **BEARER, x_request_id="mine")
    server.post("/v1/embeddings", {"model": "none", "input": TEXT}, **BEARER)
    server.ask("GET", "/v1/models/tiny", b"", BEARER)
    server.get("/none")
    server.get("/health")
    answered, failed, listed, refused, health = log.lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", answered.pop("time"))
    assert answered.pop("ms").keys() == {"receive", "tokenize", "queue", "compute", "reply", "total"}
    assert answered == {
        "level": "info",
        "event": "request",
        "request_id": "mine",
        "client": "127.0.0.1",
        "key": "search",
        "method": "POST",
        "route": "/embed",
        "model": "tiny",
        "status": 200,
        "inputs": 2,
        "tokens": 19,
    }
    assert (failed["status"], failed["model"], failed["tokens"], failed["ms"].keys()) == (404, None, 0, {"total"})
    assert (listed["route"], listed["status"]) == ("/v1/models/{name:path}", 200)
    assert (refused["route"], refused["status"], refused["key"]) == ("other", 401, None)
    assert (health["route"], health["status"], health["key"]) == ("/health", 200, None)
    assert len({line["request_id"] for line in (answered, failed, listed, refused, health)}) == 5


async def test_a_client_that_left_has_a_line_too() -> None:
    from tests.server.http_fakes import drive

    async def never(_: Request) -> None:
        await asyncio.Event().wait()

    log = Log()
    server = LockedServer(log=log.handler)
    server.engine.behave = never
    headers = {"content-type": "application/json", "x-request-id": "mine", **BEARER}
    await drive(server.app, "POST", "/embed", [b'{"inputs": "a"}'], headers, leave_after_s=0.01)
    assert [(line["status"], line["request_id"]) for line in log.lines()] == [(499, "mine")]


@pytest.mark.parametrize("has_texts", [False, True])
def test_texts_are_in_the_log_only_when_it_may_have_them(has_texts: bool) -> None:
    log = Log(has_texts)
    server = LockedServer(log=log.handler, log_texts=has_texts)
    server.post("/embed", {"inputs": TEXT}, **BEARER)
    server.post("/embed", {"inputs": 5, "why": TEXT}, **BEARER)
    server.post("/embed", {"inputs": TEXT + "x" * 100_000}, **BEARER)
    bodies = [line.get("body") for line in log.lines()]
    if not has_texts:
        assert bodies == [None] * 3
        return
    assert bodies[0] == json.dumps({"inputs": TEXT}, ensure_ascii=False, separators=(",", ":"))
    assert all(len(body.encode()) <= MOST_TEXT_BYTES for body in bodies)


def failing(text: str) -> None:
    """Raise as libraries do: an error, with a cause, that quotes what it was given."""
    try:
        {}[text]
    except KeyError as error:
        raise ValueError(f"cannot tokenize {text!r}") from error


@pytest.mark.parametrize("has_texts", [False, True])
@pytest.mark.parametrize("is_json", [False, True])
def test_tracebacks_do_not_quote_what_libraries_quote(root: logging.Logger, is_json: bool, has_texts: bool) -> None:
    log, stream = Log(has_texts), io.StringIO()
    plain = RichHandler(console=Console(file=stream, width=400), show_path=False)
    plain.setFormatter(DiscreetFormatter(has_texts))
    # One handler's traceback is kept in the record, where the other would find it.
    leaking = logging.StreamHandler(io.StringIO())
    root.handlers = [leaking, log.handler if is_json else plain]
    try:
        failing(TEXT)
    except ValueError:
        root.exception("the tokenizer failed")
    told = log.lines()[0]["traceback"] if is_json else stream.getvalue()
    assert (TEXT in told) is has_texts
    for part in ("test_logs.py", "in failing", "KeyError", "ValueError"):
        assert part in told


@pytest.mark.parametrize("has_texts", [False, True])
def test_lines_of_asyncio_do_not_quote_what_a_task_failed_with(
    has_texts: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    set_up_text(logging.NullHandler(), has_texts)

    async def fail() -> None:
        failing(TEXT)

    async def forget() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    asyncio.run(forget())
    (message,) = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert message.startswith("Task exception was never retrieved")
    assert ("cannot tokenize" in message) is has_texts


def test_an_unexpected_failure_of_a_request_quotes_no_text(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.engine.fail_with(ValueError(f"cannot tokenize {TEXT!r}"))
    answer = server.post("/embed", {"inputs": TEXT})
    assert answer.status == 500 and TEXT not in answer.body.decode()
    formatter = DiscreetFormatter()
    told = "\n".join(formatter.format(record) for record in caplog.records)
    assert "a request failed unexpectedly" in told and "ValueError" in told and TEXT not in told


def test_a_log_that_nobody_reads_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_LINES", 50)
    monkeypatch.setattr(logs, "_FLUSH_S", 0.01)
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    for index in range(2000):  # the pipe holds 64 KiB, the rest waits or is dropped
        writer.write({"index": index, "pad": "x" * 1000})
    writer.close()
    data = b""
    while b"were dropped" not in data:
        data += os.read(reading, 1 << 20)
    lines = [json.loads(line) for line in data.splitlines()]
    kept = [line["index"] for line in lines if "index" in line]
    assert kept == sorted(kept) and kept[0] == 0
    assert lines[-1]["message"] == f"{2000 - len(kept)} lines of the log were dropped, since nobody read them in time"
    os.close(reading)
    os.close(writing)


def test_a_log_whose_reader_left_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = LineWriter(writing)
    writer.write({"a": 1})
    writer.close()
    os.close(writing)


def test_refusals_are_quoted_in_bounds_and_on_one_line() -> None:
    log = Log()
    server = Server()
    server.engine.fail_with(OverloadedError("full", 1.0))
    LockedServer(log=log.handler).post("/embed\n\x1b[31m", {"inputs": "a"}, **BEARER)
    [line] = log.lines()
    assert line["route"] == "other" and "\x1b" not in json.dumps(line)


def test_a_real_server_locks_its_door_and_takes_up_new_keys(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIDGELINE_ADMIN_KEY", "the-key-of-an-admin")
    file = tmp_path / "keys.toml"
    first = add_key(file, "first")
    with running_server(str(tiny_bundle), "--api-keys", str(file), "--log-format", "json") as server:

        def status(key: str, text: str = "a") -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.post(f"{server.url}/embed", json={"inputs": text}, headers=headers, timeout=60).status_code

        def wait_for(said: str) -> None:
            while said not in server.log.read_text():
                assert server.process.poll() is None
                time.sleep(0.01)

        second = "unknown"
        assert (status(first, TEXT), status(second)) == (200, 401)
        second = add_key(file, "second")
        server.process.send_signal(1)
        wait_for("API keys were read again: there are 3")
        assert (status(first), status(second)) == (200, 200)
        file.write_text("broken")
        server.process.send_signal(1)
        wait_for("the API keys stay as they were: ")
        assert (status(first), status(second)) == (200, 200)
        assert httpx.get(f"{server.url}/health").status_code == 200
        wait_for('"route":"/health"')
        text = server.log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        noted = [(line["key"], line["status"]) for line in lines if line.get("event") == "request"]
        assert noted.count(("first", 200)) == 3 and noted.count(("second", 200)) == 2 and (None, 401) in noted
        for secret in (first, second, TEXT, "the-key-of-an-admin"):
            assert secret not in text
        for worker in server.workers():
            assert b"the-key-of-an-admin" not in Path(f"/proc/{worker.pid}/environ").read_bytes()
