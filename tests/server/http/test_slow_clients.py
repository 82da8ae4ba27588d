"""Clients that are slow on purpose, on real sockets: heads, bodies, trailers, replies, and crowds of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from ridgeline_server.http import connection, server, waiting
from ridgeline_server.http.connection import Connection
from tests.server.test_http_connection import ASK, BODY, HEAD, LONG_ASK, Running, running

CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def connections(server: Running) -> list[Connection]:
    return [each for each in server.http.server_state.connections if isinstance(each, Connection)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("head", [b"PO", b"POST /em", HEAD, HEAD + b"X-Slow: ", HEAD + b"Content-Length: 15\r\n"])
async def test_a_head_that_trickles_gets_408(head: bytes) -> None:
    async with running() as server:
        client = await server.connect()
        client.send(head)
        await until(lambda: bool(connections(server)) and connections(server)[0]._head_since > 0)
        [each] = connections(server)
        each.close_if_idle(60, head_s=60)
        assert not each.transport.is_closing()
        began = each._head_since
        client.send(b"S" if head == b"PO" else b"x")
        await asyncio.sleep(0.02)
        assert each._head_since == began, "what trickles gains no time"
        each.close_if_idle(60, head_s=0.01)
        status, answer = await client.answer()
        assert status == 408 and b"\r\nconnection: close" in answer
        assert await client.is_closed()


async def test_a_head_behind_an_answer_has_its_time_from_the_answer_on() -> None:
    async with running() as server:
        released = asyncio.Event()

        async def behave(_: object) -> None:
            await released.wait()

        server.engine.behave = behave
        client = await server.connect()
        client.send(ASK)
        await until(lambda: bool(server.engine.seen))
        client.send(HEAD)
        [each] = connections(server)
        await until(lambda: each._head_since > 0)
        each._head_since -= 1000
        each.close_if_idle(60, head_s=60)
        released.set()
        assert (await client.answer())[0] == 200
        each.close_if_idle(60, head_s=60)
        client.send(ASK[len(HEAD) :])
        assert (await client.answer())[0] == 200


async def test_a_connection_between_requests_has_no_head() -> None:
    async with running() as server:
        client = await server.connect()
        for whole in (ASK, CHUNKED + b"f\r\n" + BODY + b"\r\n0\r\n\r\n"):
            for part in (whole[:-2], whole[-2:]):
                client.send(part)
                await asyncio.sleep(0.01)
            assert (await client.answer())[0] == 200
            [each] = connections(server)
            await asyncio.sleep(0.02)
            each.close_if_idle(60, head_s=0.001)
            assert not each.transport.is_closing()


async def test_a_body_that_trickles_gets_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SWEEP_EVERY_S", 0.02)
    async with running(request_timeout_s=0.2) as server:
        client = await server.connect()
        client.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        trickling = asyncio.create_task(_trickle(client.send))
        status, _ = await client.answer()
        trickling.cancel()
        assert status == 408 and server.door.budget.used == 0


async def _trickle(send: Callable[[bytes], None]) -> None:
    while True:
        send(b" ")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "frame", [b"0\r\n" + b"X-Trailer: y\r\n" * 9000, b"0\r\nX-Long: " + b"y" * 200_000, b"1;" + b"x" * 200_000]
)
async def test_endless_framing_of_a_body_ends_the_connection(frame: bytes) -> None:
    async with running() as server:
        client = await server.connect()
        client.send(CHUNKED)
        for at in range(0, len(frame), 16_384):
            client.send(frame[at : at + 16_384])
            await asyncio.sleep(0)
        assert await client.is_closed()
        await until(lambda: server.door.budget.used == 0)


async def test_trailers_change_nothing_of_a_request() -> None:
    async with running() as server:
        client = await server.connect()
        head = HEAD.replace(b"Content-Type: application/json\r\n", b"") + b"Transfer-Encoding: chunked\r\n\r\n"
        late = b"0\r\nContent-Type: application/json\r\nX-Api-Key: k\r\n\r\n"
        client.send(head + b"f\r\n" + BODY + b"\r\n" + late)
        assert (await client.answer())[0] == 415
        client.send(CHUNKED + b"f\r\n" + BODY + b"\r\n" + late)
        assert (await client.answer())[0] == 200


async def test_many_small_chunks_are_no_endless_framing() -> None:
    async with running() as server:
        client = await server.connect()
        body = BODY.ljust(20_000)
        client.send(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_a_reply_has_its_own_time_to_be_read() -> None:
    async with running() as server:
        deaf = await server.connect()
        await until(lambda: bool(connections(server)))
        [each] = connections(server)
        each._idle_since -= 1000
        while not each.flow.write_paused:
            deaf.send(LONG_ASK)
            await asyncio.sleep(0)
        each._idle_since -= 1000
        each.close_if_idle(60)
        assert not each.transport.is_closing()
        each._stalled_since -= 61
        each.close_if_idle(60)
        await until(lambda: not connections(server))


async def test_the_longest_unread_replies_are_dropped_when_they_are_too_many(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as server:
        deaf, patient = await server.connect(), await server.connect()
        while not any(each.flow.write_paused for each in connections(server)):
            deaf.send(LONG_ASK)
            await asyncio.sleep(0)
        server.http.close_slow(connections(server))
        assert len(connections(server)) == 2 and not caplog.messages
        server.http._max_unread_bytes = 1000
        server.http.close_slow(connections(server))
        await until(lambda: len(connections(server)) == 1)
        assert caplog.records[0].levelno == logging.WARNING and "unread" in caplog.messages[0]
        patient.send(ASK)
        assert (await patient.answer())[0] == 200


async def test_a_crowd_of_connections_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_most_connections", lambda: 8)
    async with running() as one:
        crowd = [await one.connect() for _ in range(8)]
        await until(lambda: len(connections(one)) == 8)
        assert await (await one.connect()).is_closed()
        one.http.close_slow(connections(one))
        assert len(connections(one)) == 8
        for each in connections(one):
            each._idle_since -= 6
        crowd[0].send(ASK)
        assert (await crowd[0].answer())[0] == 200
        one.http.close_slow(connections(one))
        await until(lambda: len(connections(one)) == 1)
        late = await one.connect()
        late.send(ASK)
        assert (await late.answer())[0] == 200


def test_some_files_are_left_for_the_server_itself() -> None:
    most = server._most_connections()
    assert most is None or most > 0
    assert connection.HEAD_S < server._KEEP_ALIVE_S
