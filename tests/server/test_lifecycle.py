"""How a real server ends, and how deadlines hold on its whole way."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.running_server import RunningServer, running_server

HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def connect(server: RunningServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def test_a_client_that_trickles_its_body_does_not_delay_the_end(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle), "--drain-timeout-s", "0.5") as server:
        workers = server.workers()
        with connect(server) as trickling, connect(server) as idle:
            trickling.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            assert read_all(idle) == b""
            began = time.monotonic()
            while time.monotonic() < began + 0.3:
                trickling.sendall(b" ")
                time.sleep(0.05)
            answer = read_all(trickling)
        assert answer.startswith(b"HTTP/1.1 503") and b"the server is stopping" in answer
        assert server.process.wait(30) == 0
        assert not any(worker.is_running() for worker in workers)


def test_a_second_signal_ends_the_server_at_once(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle)) as server:
        workers = server.workers()
        with connect(server) as holding:
            holding.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 128 + signal.SIGTERM
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive


def test_a_server_that_drains_is_not_ready(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle), "--drain-timeout-s", "2") as server, connect(server) as pipelining:
        body = b'{"inputs": "a"}'
        request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
        pipelining.sendall(request[:-1])
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/ready")
        pipelining.sendall(request[-1:])
        answer = read_all(pipelining)
        assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower()
        assert server.process.wait(30) == 0


def test_deadlines_hold_with_a_stopped_worker(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle)) as server:
        [worker] = server.workers()
        worker.suspend()
        try:
            for body in ({"inputs": "a"}, {"inputs": ["a longer text"] * 1000}):
                began = time.monotonic()
                headers = {"X-Request-Timeout": "0.4"}
                response = httpx.post(f"{server.url}/embed", json=body, headers=headers, timeout=10)
                assert response.status_code == 504
                assert 0.3 < time.monotonic() - began < 9
        finally:
            worker.resume()
        server.wait_ready()
        assert len(server.embed(["still here"])) == 1


def test_raw_replies_equal_json_ones(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle)) as server:
        expected = server.embed(["one", "two words"])
        headers = {"Accept": "application/octet-stream", "X-Priority": "batch"}
        response = httpx.post(f"{server.url}/embed", json={"inputs": ["one", "two words"]}, headers=headers)
        dim = len(expected[0])
        assert response.headers["X-Shape"] == f"2,{dim}"
        numbers = memoryview(response.content).cast("f").tolist()
        assert numbers == pytest.approx(expected[0] + expected[1], abs=1e-6)
