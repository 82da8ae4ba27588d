"""The HTTP server on a socket: what clients do to connections, and how draining ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ridgeline_server.http import connection, waiting
from ridgeline_server.http.server import HttpServer
from ridgeline_server.request import Request
from tests.server.http_fakes import FakeEngine, Server

BODY = b'{"inputs": "a"}'
HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
ASK = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
# Its reply is long too.
LONG_BODY = b'{"inputs": [' + b", ".join([b'"a text of some words"'] * 1000) + b"]}"
LONG_ASK = HEAD + b"Content-Length: %d\r\n\r\n" % len(LONG_BODY) + LONG_BODY


class Client:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, bytes]:
        """Status and head of one reply, its body read."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await asyncio.wait_for(self._reader.readexactly(int(length.split(b":")[1])), 30)
        return int(head.split()[1]), head.lower()

    async def is_closed(self, within_s: float = 5) -> bool:
        try:
            return await asyncio.wait_for(self._reader.read(1), within_s) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def close(self) -> None:
        self._writer.transport.abort()


class Running:
    """A fake engine's application behind a socket."""

    def __init__(self, server: Server, http: HttpServer, port: int) -> None:
        self.engine = server.engine
        self.door = server.app
        self.http = http
        self._port = port

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self._port, limit=4096))


@asynccontextmanager
async def running(drain_timeout_s: float = 5, **config: Any) -> AsyncIterator[Running]:
    server = Server(FakeEngine(), **config)
    http = HttpServer(server.app, drain_timeout_s)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        try:
            yield Running(server, http, listener.getsockname()[1])
        finally:
            http.stop()
            await asyncio.wait_for(serving, drain_timeout_s + 5)


def waits(released: asyncio.Event) -> Callable[[Request], Awaitable[None]]:
    async def behave(_: Request) -> None:
        await released.wait()

    return behave


async def test_replies_keep_the_connection() -> None:
    async with running() as server:
        client = await server.connect()
        for _ in range(3):
            client.send(ASK)
            status, head = await client.answer()
            assert status == 200 and b"\r\ndate: " in head and b"\r\nconnection: close" not in head


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running() as server:
        client = await server.connect()
        client.send(ASK + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + ASK.replace(b'"a"', b'"" ') + ASK)
        assert [(await client.answer())[0] for _ in range(4)] == [200, 200, 400, 200]


async def test_requests_behind_an_unanswered_one_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SWEEP_EVERY_S", 0.02)
    async with running() as server:
        released = asyncio.Event()
        server.engine.behave = waits(released)
        client = await server.connect()
        for _ in range(20):
            client.send(ASK)
            await asyncio.sleep(0.02)
        [each] = server.http.server_state.connections
        assert each.flow.read_paused and len(each.pipeline) == 1
        released.set()
        assert [(await client.answer())[0] for _ in range(20)] == [200] * 20


async def test_too_many_requests_behind_one_end_the_connection() -> None:
    async with running() as server:
        server.engine.behave = waits(asyncio.Event())
        client = await server.connect()
        client.send(ASK * (connection.MOST_PIPELINED + 2))
        assert await client.is_closed()
        while not server.engine.cancelled:
            await asyncio.sleep(0.01)
        client = await server.connect()
        server.engine.behave = None
        client.send(ASK * (connection.MOST_PIPELINED + 1))
        assert {(await client.answer())[0] for _ in range(connection.MOST_PIPELINED + 1)} == {200}


async def test_a_client_that_leaves_after_a_long_body_cancels_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SWEEP_EVERY_S", 0.02)
    async with running() as server:
        server.engine.behave = waits(asyncio.Event())
        client = await server.connect()
        body = BODY.ljust(200_000)
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while not server.engine.seen:
            await asyncio.sleep(0.01)
        client.close()
        while not server.engine.cancelled:
            await asyncio.sleep(0.01)
        assert server.door.budget.used == 0


async def test_chunked_bodies_and_odd_splits() -> None:
    async with running() as server:
        client = await server.connect()
        whole = (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\na\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
        )
        for at in (1, 20, 60, len(whole) - 9, len(whole) - 1):
            client.send(whole[:at])
            await asyncio.sleep(0.01)
            client.send(whole[at:])
            assert (await client.answer())[0] == 200


@pytest.mark.parametrize(
    "codings", [b'Transfer-Encoding: "chunked"\r\nTransfer-Encoding: chunked', b"Transfer-Encoding: gzip, chunked"]
)
async def test_bodies_that_are_coded_as_more_than_chunks_are_refused(codings: bytes) -> None:
    async with running() as server:
        client = await server.connect()
        client.send(HEAD + codings + b"\r\n\r\nf\r\n" + BODY + b"\r\n0\r\n\r\n")
        status, head = await client.answer()
        assert status == 400 and b"application/json" in head
        client.send(ASK)
        assert (await client.answer())[0] == 200


async def test_a_client_that_awaits_100_continue_gets_it_only_when_its_body_is_wanted() -> None:
    async with running() as server:
        head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        client = await server.connect()
        client.send(head)
        assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(BODY)
        assert (await client.answer())[0] == 200
        server.engine.full_for_s = 1.0
        client.send(head)
        status, answer = await client.answer()
        assert status == 429 and b"\r\nconnection: close" in answer
        assert await client.is_closed()


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_a_refusal_keeps_the_connection_though_its_body_was_not_read(size: int) -> None:
    async with running() as server:
        server.engine.full_for_s = 1.0
        client = await server.connect()
        for _ in range(3):
            client.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
            assert (await client.answer())[0] == 429
            client.send(b" " * size)
        server.engine.full_for_s = None
        client.send(ASK)
        assert (await client.answer())[0] == 200


async def test_a_refusal_arrives_before_a_long_body_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_DISCARDED_BYTES", 1_000_000)
    monkeypatch.setattr(connection, "LINGER_S", 0.2)
    async with running() as server:
        client = await server.connect()
        client.send(HEAD + b"Content-Length: 90000000\r\n\r\n" + b" " * 2_000_000)
        status, head = await client.answer()
        assert status == 413 and b"\r\nconnection: close" in head
        assert await client.is_closed()


async def test_an_endless_body_of_a_refused_request_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_DISCARDED_BYTES", 100_000)
    async with running() as server:
        server.engine.full_for_s = 1.0
        client = await server.connect()
        client.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await client.answer())[0] == 429
        client.send((b"10000\r\n" + b" " * 65536 + b"\r\n") * 4)
        assert await client.is_closed()


async def test_an_endless_head_ends_the_connection() -> None:
    async with running() as server:
        client = await server.connect()
        for _ in range(4):
            client.send(HEAD + b"X-Long: " + b"x" * 40_000)
            await asyncio.sleep(0.01)
        assert await client.is_closed()


async def test_idle_clients_and_slow_heads_are_closed_and_busy_ones_are_not() -> None:
    async with running() as server:
        released = asyncio.Event()
        server.engine.behave = waits(released)
        silent, slow, busy = [await server.connect() for _ in range(3)]
        slow.send(HEAD)
        busy.send(ASK)
        await asyncio.sleep(0.05)
        for each in list(server.http.server_state.connections):
            each.close_if_idle(60)
        assert not await silent.is_closed(0.05)
        for each in list(server.http.server_state.connections):
            each.close_if_idle(0.01)
        assert await silent.is_closed() and await slow.is_closed()
        released.set()
        assert (await busy.answer())[0] == 200


async def test_a_last_reply_that_took_long_to_compute_is_read_whole() -> None:
    async with running(max_client_batch_size=10_000) as server:
        released = asyncio.Event()
        server.engine.behave = waits(released)
        client = await server.connect()
        body = b'{"inputs": [' + b", ".join([b'"a"'] * 10_000) + b"]}"
        client.send(HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.sleep(0.3)
        [each] = server.http.server_state.connections
        each.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        released.set()
        while not each.transport.is_closing():
            await asyncio.sleep(0.01)
        assert each.transport.get_write_buffer_size()
        each.close_if_idle(0.2)
        status, head = await client.answer()
        assert status == 200 and b"\r\nconnection: close" in head
        assert await client.is_closed()


async def test_a_client_that_does_not_read_its_replies_is_closed() -> None:
    async with running() as server:
        deaf = await server.connect()
        while not any(each.flow.write_paused for each in server.http.server_state.connections):
            deaf.send(LONG_ASK)
            await asyncio.sleep(0)
        for each in list(server.http.server_state.connections):
            each.close_if_idle(60)
        assert server.http.server_state.connections
        await asyncio.sleep(0.05)
        for each in list(server.http.server_state.connections):
            each.close_if_idle(0.02)
        await asyncio.sleep(0.05)
        assert not server.http.server_state.connections
        assert server.door.budget.used == 0


async def test_an_upgrade_that_is_not_wanted_is_an_ordinary_request() -> None:
    async with running() as server:
        client = await server.connect()
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
        for _ in range(2):
            client.send(HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            assert (await client.answer())[0] == 200
        client.send((HEAD + upgrade + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY) * 2 + ASK)
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("wishes", [b"close, Upgrade", b"Upgrade, close", b"upgrade\r\nConnection: close"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_upgrade_that_is_not_wanted_keeps_version_and_close(version: bytes, wishes: bytes) -> None:
    async with running() as server:
        client = await server.connect()
        head = HEAD.replace(b"HTTP/1.1", b"HTTP/" + version) + b"Upgrade: h2c\r\nConnection: " + wishes
        client.send(head + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
        status, answer = await client.answer()
        assert status == 200 and b"\r\nconnection: close" in answer
        assert await client.is_closed()


async def test_an_upgrade_over_http_1_0_is_an_ordinary_request() -> None:
    async with running() as server:
        client = await server.connect()
        head = HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert (await client.answer())[0] == 200
        assert await client.is_closed()


@pytest.mark.parametrize(
    "data",
    [b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n", b"\x16\x03\x01\x02", ASK.replace(b"15", b"-1")],
)
async def test_what_is_not_http_is_400(data: bytes) -> None:
    async with running() as server:
        client = await server.connect()
        client.send(data)
        assert (await client.answer())[0] == 400
        assert await client.is_closed()


async def test_draining_closes_idle_connections_and_answers_the_others() -> None:
    async with running() as server:
        released = asyncio.Event()
        server.engine.behave = waits(released)
        idle, busy = await server.connect(), await server.connect()
        busy.send(ASK)
        await asyncio.sleep(0.05)
        server.http.stop()
        assert await idle.is_closed()
        assert not await busy.is_closed(0.1)
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        released.set()
        status, head = await busy.answer()
        assert status == 200 and b"\r\nconnection: close" in head
        assert await busy.is_closed()


async def test_draining_ends_in_time_whatever_clients_hold_open(caplog: pytest.LogCaptureFixture) -> None:
    async with running(drain_timeout_s=0.3) as server:
        server.engine.behave = waits(asyncio.Event())
        held, trickling = await server.connect(), await server.connect()
        held.send(ASK)
        trickling.send(HEAD + b"Content-Length: 100\r\n\r\n{")
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        server.http.stop()
        for client in (held, trickling):
            status, head = await client.answer()
            assert status == 503 and b"\r\nretry-after: " in head
        assert asyncio.get_running_loop().time() - began >= 0.3
    assert [record.getMessage() for record in caplog.records] == [
        "the time to drain is over: 2 requests are answered with 503"
    ]


async def test_draining_tells_whose_replies_were_not_read(caplog: pytest.LogCaptureFixture) -> None:
    async with running(drain_timeout_s=0.1) as server:
        deaf = await server.connect()
        while not any(each.flow.write_paused for each in server.http.server_state.connections):
            deaf.send(LONG_ASK)
            await asyncio.sleep(0)
    assert "1 connections are closed whose clients did not read their replies" in caplog.messages
