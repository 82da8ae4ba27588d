"""Refusals go out at a bounded rate, and those of a quiet server at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ridgeline_server.errors import OverloadedError
from ridgeline_server.http import pace as module
from ridgeline_server.http.exchange import Exchange
from ridgeline_server.http.pace import BURST, LONGEST_S, Pace
from tests.server.http_fakes import FakeEngine, Server
from tests.server.locked import LockedServer


def test_a_few_refusals_go_out_at_once() -> None:
    pace = Pace(per_s=1000)
    assert [pace.delay_s(50.0) for _ in range(BURST)] == [0.0] * BURST
    assert pace.delay_s(50.0) == pytest.approx(0.001)
    assert pace.delay_s(51.0) == 0.0


def test_a_flood_of_them_leaves_at_the_rate() -> None:
    pace = Pace(per_s=1000)
    sent = [7 + number / 5000 for number in range(2500)]  # 5,000 a second, for half a second
    leaves = [instant + pace.delay_s(instant) for instant in sent]
    assert leaves == sorted(leaves)
    assert sum(instant < 7.5 for instant in leaves) == pytest.approx(500 + BURST, abs=3)


def test_none_waits_longer_than_any_retry_after_asks_for() -> None:
    pace = Pace(per_s=10)
    assert max(pace.delay_s(7.0) for _ in range(5000)) == LONGEST_S
    assert pace.delay_s(7.0 + LONGEST_S + BURST / 10) == 0.0


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One refusal goes out at once, the next ones wait 0.05 s each."""
    monkeypatch.setattr(module, "BURST", 1)
    monkeypatch.setattr(module, "PER_S", 20.0)


def asked(server: Server, count: int, **headers: str) -> tuple[list[int], float]:
    """Statuses of so many requests one after another, and the seconds that they took."""
    began = time.monotonic()
    found = [server.post("/embed", {"inputs": "a"}, **headers).status for _ in range(count)]
    return found, time.monotonic() - began


@pytest.mark.usefixtures("narrow")
def test_what_clients_can_ask_for_without_end_is_paced_and_nothing_else_is() -> None:
    engine = FakeEngine()
    server = Server(engine)
    assert asked(server, 40)[1] < 2.0 > asked(server, 1)[1]
    engine.fail_with(OverloadedError("full", 3.0))
    statuses, took_s = asked(server, 5)
    assert statuses == [429] * 5 and took_s > 0.15
    statuses, took_s = asked(LockedServer(), 5)
    assert statuses == [401] * 5 and took_s > 0.15


@pytest.mark.usefixtures("narrow")
def test_a_refusal_that_waits_holds_no_bytes_and_says_when_to_come_back() -> None:
    engine = FakeEngine()
    engine.fail_with(OverloadedError("full", 3.0))
    server = Server(engine)
    answers = [server.post("/embed", {"inputs": "a"}) for _ in range(3)]
    assert [answer.headers["retry-after"] for answer in answers] == ["3"] * 3
    assert server.app.budget.used == 0


@pytest.mark.parametrize(
    ("headers", "is_read"),
    [
        ({"content-length": "100"}, False),
        ({"content-length": "1000000"}, True),
        ({"transfer-encoding": "chunked"}, True),
        ({"content-length": "1000000", "expect": "100-continue"}, False),
        ({"content-length": "x"}, True),
        ({}, False),
    ],
)
@pytest.mark.usefixtures("narrow")
async def test_large_bodies_are_thrown_away_meanwhile(headers: dict[str, str], is_read: bool) -> None:
    parts = iter([b"x" * 1000] * 3)

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        if part is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": part, "more_body": True}

    scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    pace = Pace()
    await pace.wait(Exchange(scope, receive))
    await pace.wait(Exchange(scope, receive))
    assert (next(parts, None) is None) is is_read


@pytest.mark.usefixtures("narrow")
async def test_only_so_many_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(per_s=2.0, most_held=3)
    waiting = [asyncio.create_task(pace.wait()) for _ in range(10)]
    await asyncio.sleep(0.05)
    assert sum(not task.done() for task in waiting) == 3
    monkeypatch.setattr(module, "_MOST_UNREAD", 2)
    unasked = {"headers": [(b"expect", b"100-continue"), (b"content-length", b"1000000")]}
    pace = Pace(per_s=2.0)
    held = [asyncio.create_task(pace.wait(Exchange(unasked, never))) for _ in range(10)]
    await asyncio.sleep(0.05)
    assert sum(not task.done() for task in held) == 2
    await asyncio.gather(*waiting, *held)


async def never() -> dict[str, Any]:
    pytest.fail("the client would be asked for its body")


@pytest.mark.usefixtures("narrow")
async def test_no_more_is_thrown_away_than_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_DISCARDED_BYTES", 5000)
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1000
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    pace = Pace()
    await pace.wait()
    await pace.wait(Exchange({"headers": [(b"transfer-encoding", b"chunked")]}, receive))
    assert read == 6000


@pytest.mark.usefixtures("narrow")
async def test_a_client_that_leaves_is_waited_for_no_longer() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    pace = Pace(per_s=0.01)
    began = time.monotonic()
    for _ in range(3):
        await pace.wait(Exchange({"headers": [(b"transfer-encoding", b"chunked")]}, receive))
    assert time.monotonic() - began < LONGEST_S
