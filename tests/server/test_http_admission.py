"""What is refused before its body is read, and what holds how many bytes meanwhile."""

import asyncio
from typing import Any

import pytest

from ridgeline_server.errors import UnavailableError
from ridgeline_server.http import waiting
from ridgeline_server.request import Priority, Request
from tests.server.http_fakes import FakeEngine, Server, drive

OPENAI = "/v1/embeddings"
BODIES: dict[str, Any] = {OPENAI: {"model": "tiny", "input": "a"}, "/embed": {"inputs": "a"}}
JSON = {"content-type": "application/json"}


async def never(_: Request) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("path", [OPENAI, "/embed", "/models/other/embed"])
def test_without_a_replica_the_body_is_not_read(path: str) -> None:
    server = Server(FakeEngine(unavailable=UnavailableError("no replica can serve", 4.2)))
    answer = asyncio.run(drive(server.app, "POST", path, [], JSON))
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("path", "name"), [(OPENAI, None), ("/embed", "tiny"), ("/models/example/other/embed", "other")]
)
def test_the_engine_is_asked_about_the_model_that_the_path_names(path: str, name: str | None) -> None:
    server = Server(FakeEngine(full_for_s=1.0))
    assert asyncio.run(drive(server.app, "POST", path, [], JSON)).status == 429
    assert server.engine.asked == [name]


def test_a_path_with_an_unknown_model_is_404_before_the_body_is_read() -> None:
    assert asyncio.run(drive(Server().app, "POST", "/models/none/embed", [], JSON)).status == 404


@pytest.mark.parametrize(
    ("given", "priority"),
    [("", Priority.INTERACTIVE), ("interactive", Priority.INTERACTIVE), (" Batch ", Priority.BATCH)],
)
@pytest.mark.parametrize("path", BODIES)
def test_priorities_reach_the_engine(path: str, given: str, priority: Priority) -> None:
    server = Server()
    assert server.post(path, BODIES[path], x_priority=given).status == 200
    assert server.engine.seen[-1].priority is priority


@pytest.mark.parametrize(("path", "status"), [(OPENAI, 400), ("/embed", 422)])
def test_a_nonsense_priority_is_refused(path: str, status: int) -> None:
    answer = Server().post(path, BODIES[path], x_priority="urgent")
    assert answer.status == status
    assert "X-Priority is 'urgent'; give interactive or batch" in str(answer.json["error"])


async def silence() -> dict[str, object]:
    await asyncio.Event().wait()
    raise AssertionError("nothing comes")


async def statuses(server: Server, receive: Any, headers: dict[str, str]) -> list[int]:
    """What is answered to a request whose body `receive` brings."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = [(name.encode(), value.encode()) for name, value in (JSON | headers).items()]
    scope = {"type": "http", "method": "POST", "path": "/embed", "headers": given}
    await asyncio.wait_for(server.app(scope, receive, send), 30)
    return [message["status"] for message in sent if "status" in message]


async def test_bytes_that_are_only_declared_shut_nobody_out() -> None:
    server = Server(max_queue_bytes=100, request_timeout_s=0.1)
    silent = [asyncio.create_task(statuses(server, silence, {"content-length": "100"})) for _ in range(8)]
    await asyncio.sleep(0.01)
    assert server.app.budget.used == 0
    assert (await server.ask_async("POST", "/embed", BODIES["/embed"])).status == 200
    assert await asyncio.gather(*silent) == [[408]] * 8


async def test_a_declared_body_is_held_as_far_as_it_has_arrived() -> None:
    server = Server(max_queue_bytes=100, request_timeout_s=0.1)
    parts = [b" " * 30, b" " * 40]

    async def receive() -> dict[str, object]:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": True}
        return await silence()

    arriving = asyncio.create_task(statuses(server, receive, {"content-length": "100"}))
    await asyncio.sleep(0.01)
    assert server.app.budget.used == 70
    refused = await drive(server.app, "POST", "/embed", [b" " * 20, b" " * 11], {**JSON, "content-length": "30"})
    assert (refused.status, server.app.budget.used) == (429, 70)
    assert await arriving == [408]
    assert server.app.budget.used == 0


async def test_a_far_deadline_does_not_give_a_body_more_time() -> None:
    server = Server(request_timeout_s=0.01)
    assert await statuses(server, silence, {"content-length": "9", "x-request-timeout": "3600"}) == [408]


async def test_bytes_are_held_until_the_answer() -> None:
    server = Server(FakeEngine(behave=never), max_queue_bytes=100)
    held = asyncio.create_task(
        drive(server.app, "POST", "/embed", [b'{"inputs": "a"}'.ljust(60)], {**JSON, "content-length": "60"})
    )
    await asyncio.sleep(0.01)
    assert server.app.budget.used == 60
    refused = await drive(server.app, "POST", OPENAI, [], {**JSON, "content-length": "41"})
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "hold 60 of 100 bytes" in refused.json["error"]["message"]
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    assert server.app.budget.used == 0
    server.engine.behave = None
    assert (await server.ask_async("POST", "/embed", BODIES["/embed"])).status == 200
    assert server.app.budget.used == 0


async def test_chunks_are_counted_as_they_arrive() -> None:
    server = Server(FakeEngine(behave=never), max_queue_bytes=100)
    held = asyncio.create_task(drive(server.app, "POST", "/embed", [b'{"inputs":', b' "a"}'], JSON))
    await asyncio.sleep(0.01)
    assert server.app.budget.used == 15
    refused = await drive(server.app, "POST", "/embed", [b" " * 50, b" " * 50, b""], JSON)
    assert refused.status == 429
    assert server.app.budget.used == 15
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)


def test_a_body_over_the_whole_budget_is_413() -> None:
    server = Server(max_queue_bytes=100)
    assert asyncio.run(drive(server.app, "POST", "/embed", [], {**JSON, "content-length": "101"})).status == 413
    assert asyncio.run(drive(server.app, "POST", "/embed", [b" " * 60] * 2, JSON)).status == 413
    assert server.app.budget.used == 0


def test_too_many_token_ids_are_413() -> None:
    server = Server(max_request_tokens=3)
    answer = server.post("/embed", {"inputs": [[1, 2], [3, 4]]})
    assert (answer.status, answer.json["error"]) == (
        413,
        "`inputs` holds 4 token ids; one request may hold 3: send several requests",
    )
    answer = server.post(OPENAI, {"model": "tiny", "input": [1, 2, 3, 4]})
    assert (answer.status, answer.json["error"]["code"]) == (400, "too_many_tokens")


async def test_a_late_body_is_408_and_forgotten() -> None:
    server = Server()
    assert await statuses(server, silence, {"content-length": "9", "x-request-timeout": "0.01"}) == [408]
    assert (server.engine.seen, server.app.budget.used) == ([], 0)


async def test_a_closed_room_lets_nobody_in_and_dismisses_who_stays() -> None:
    server = Server(FakeEngine(behave=never))
    inside = asyncio.create_task(server.ask_async("POST", "/embed", BODIES["/embed"]))
    await asyncio.sleep(0.01)
    server.app.room.close()
    for path, body in BODIES.items():
        answer = await server.ask_async("POST", path, body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    ready = await server.ask_async("GET", "/ready")
    assert (ready.status, ready.json) == (503, {"error": waiting.STOPPING})
    assert (await server.ask_async("GET", "/health")).status == 200
    assert not inside.done()
    server.app.room.dismiss()
    answer = await inside
    assert (answer.status, answer.json["error"]) == (503, waiting.STOPPING)
    assert server.engine.cancelled == 1
