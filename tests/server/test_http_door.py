import asyncio

import pytest

from ridgeline_server.errors import (
    DeadlineError,
    ExecutionError,
    InputTooLongError,
    InvalidInputError,
    OverloadedError,
    RequestTooLargeError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.http import waiting
from ridgeline_server.request import Instants, Request
from tests.server.http_fakes import FakeEngine, Server, drive

OPENAI = "/v1/embeddings"
BODIES = {OPENAI: {"model": "tiny", "input": "a"}, "/embed": {"inputs": "a"}}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("error", "openai", "tei"),
    [
        (InvalidInputError("bad", "input"), (400, None), (422, "Validation")),
        (InputTooLongError("long", "input"), (400, "context_length_exceeded"), (413, "Validation")),
        (RequestTooLargeError("much", "input"), (400, "too_many_tokens"), (413, "Validation")),
        (UnknownModelError("none"), (404, "model_not_found"), (404, "Validation")),
        (OverloadedError("full", 2.3), (429, "rate_limit_exceeded"), (429, "Overloaded")),
        (UnavailableError("down", 0.2), (503, "service_unavailable"), (503, "Unhealthy")),
        (DeadlineError("late"), (504, "deadline_exceeded"), (504, "Overloaded")),
        (ExecutionError("broke"), (500, "execution_failed"), (424, "Backend")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_error_has_one_answer_per_protocol(
    error: Exception, openai: tuple[int, str | None], tei: tuple[int, str]
) -> None:
    server = Server()
    server.engine.fail_with(error)
    answer = server.post(OPENAI, BODIES[OPENAI])
    assert (answer.status, answer.json["error"]["code"]) == openai
    assert answer.json["error"]["message"] == str(error)
    assert answer.json["error"].keys() == {"message", "type", "param", "code"}
    answer = server.post("/embed", BODIES["/embed"])
    assert (answer.status, answer.json) == (tei[0], {"error": str(error), "error_type": tei[1]})
    seconds = {OverloadedError: "3", UnavailableError: "1"}.get(type(error))
    assert answer.headers.get("retry-after") == seconds


def test_errors_tell_where_the_time_went() -> None:
    server = Server()
    error = DeadlineError("late")
    error.instants = Instants(received=1.0, tokenized=1.5)
    server.engine.fail_with(error)
    timing = server.post("/embed", BODIES["/embed"]).headers["server-timing"]
    assert "tokenize;dur=500.000, queue;dur=" in timing and "compute;dur=0.000, reply;dur=0.000" in timing


@pytest.mark.parametrize("path", [OPENAI, "/embed", "/models/other/embed"])
def test_a_full_queue_refuses_before_the_body_is_read(path: str) -> None:
    server = Server(FakeEngine(full_for_s=1.2))
    answer = asyncio.run(drive(server.app, "POST", path, [], JSON))
    assert (answer.status, answer.headers["retry-after"]) == (429, "2")
    assert server.get("/health").status == 200


def test_a_declared_length_over_the_limit_is_413_before_the_body_is_read() -> None:
    server = Server(max_body_bytes=100)
    answer = asyncio.run(drive(server.app, "POST", OPENAI, [], {**JSON, "content-length": "101"}))
    assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
    assert "100 bytes" in answer.json["error"]["message"]


def test_a_stream_over_the_limit_is_413_as_soon_as_it_is() -> None:
    server = Server(max_body_bytes=100)
    answer = asyncio.run(drive(server.app, "POST", "/embed", [b"x" * 60] * 1000, JSON))
    assert (answer.status, answer.json["error_type"]) == (413, "Validation")
    chunks = [b'{"inputs"', b': "in three', b' parts"}']
    assert asyncio.run(drive(server.app, "POST", "/embed", chunks, JSON)).status == 200


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "9" * 30])
def test_a_nonsense_length_is_refused(length: str) -> None:
    answer = asyncio.run(drive(Server().app, "POST", "/embed", [], {**JSON, "content-length": length}))
    assert answer.status in (400, 413)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_bodies_must_be_declared_json(content_type: str, status: int) -> None:
    answer = Server().post("/embed", BODIES["/embed"], content_type=content_type)
    assert answer.status == status
    if status == 415:
        assert "Content-Type: application/json" in answer.json["error"]


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon", "1,5", "86400.1", "1e9"])
@pytest.mark.parametrize(("path", "status"), [(OPENAI, 400), ("/embed", 422)])
def test_a_nonsense_timeout_is_refused(given: str, path: str, status: int) -> None:
    answer = Server().post(path, BODIES[path], x_request_timeout=given)
    assert answer.status == status
    assert f"X-Request-Timeout is '{given}'; give a number of seconds above 0 and up to 86400" in answer.body.decode()


def test_a_day_is_the_longest_timeout() -> None:
    assert Server().post("/embed", BODIES["/embed"], x_request_timeout="86400").status == 200


async def never(_: Request) -> None:
    await asyncio.Event().wait()


async def test_a_client_that_leaves_cancels_its_work() -> None:
    server = Server(FakeEngine(behave=never))
    body = b'{"inputs": "a"}'
    answer = await asyncio.wait_for(drive(server.app, "POST", "/embed", [body], JSON, leave_after_s=0.01), 30)
    assert (answer.status, server.engine.cancelled) == (0, 1)
    assert 'ridgeline_requests_total{model="tiny",route="/embed",status="499"} 1.0' in server.metrics.render().decode()
    server.engine.behave = None
    assert (await server.ask_async("POST", "/embed", {"inputs": "a"})).status == 200


async def test_a_client_that_leaves_while_it_sends_is_forgotten() -> None:
    server = Server()

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise AssertionError("nobody listens")

    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": [(b"content-type", b"application/json")]}
    await server.app(scope, receive, send)
    assert server.engine.seen == []


async def test_an_engine_that_forgets_a_request_is_answered_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "DEADLINE_GRACE_S", 0.01)
    server = Server(FakeEngine(behave=never), request_timeout_s=0.05)
    answer = await asyncio.wait_for(server.ask_async("POST", OPENAI, BODIES[OPENAI]), 30)
    assert (answer.status, answer.json["error"]["code"]) == (504, "deadline_exceeded")
    assert server.engine.cancelled == 1


async def test_a_cancelled_server_task_stays_cancelled() -> None:
    server = Server(FakeEngine(behave=never))
    task = asyncio.create_task(server.ask_async("POST", OPENAI, BODIES[OPENAI]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.engine.cancelled == 1


async def test_slow_answers_arrive() -> None:
    async def slow(_: Request) -> None:
        await asyncio.sleep(4 * waiting.SWEEP_EVERY_S)

    server = Server(FakeEngine(behave=slow))
    assert (await server.ask_async("POST", OPENAI, BODIES[OPENAI])).status == 200
    assert server.engine.cancelled == 0


async def test_only_those_who_left_are_cancelled() -> None:
    server = Server(FakeEngine(behave=never))
    body = b'{"inputs": "a"}'
    stays = [asyncio.create_task(drive(server.app, "POST", "/embed", [body], JSON)) for _ in range(5)]
    leaves = [drive(server.app, "POST", "/embed", [body], JSON, leave_after_s=0.01 * i) for i in range(20)]
    await asyncio.wait_for(asyncio.gather(*leaves), 30)
    assert server.engine.cancelled == 20 and not any(task.done() for task in stays)
    for task in stays:
        task.cancel()
    await asyncio.gather(*stays, return_exceptions=True)
    assert server.engine.cancelled == 25


def test_a_request_that_the_engine_dropped_is_answered() -> None:
    server = Server()
    server.engine.fail_with(asyncio.CancelledError())  # type: ignore[arg-type]
    answer = server.post(OPENAI, BODIES[OPENAI])
    assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
