"""What people do to a server: kill its worker, stop it, start it wrongly."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.running_server import COMMAND, RunningServer, running_server


@pytest.fixture(scope="module")
def survivor(tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server that one test after another does harm to, and that serves the next one all the same."""
    with running_server(str(tiny_bundle)) as server:
        yield server
        assert server.process.poll() is None


def start_and_fail(*arguments: str) -> str:
    """The error of a server that cannot start."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_a_killed_worker_costs_no_request_its_answer(survivor: RunningServer) -> None:
    [expected] = survivor.embed(["a text that is asked for again and again"])
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                body = {"inputs": ["a text that is asked for again and again"]}
                response = client.post(f"{survivor.url}/embed", json=body)
                statuses.append(response.status_code)
                if response.status_code == 200:
                    assert response.json()[0] == pytest.approx(expected, abs=1e-5)
                else:
                    assert response.status_code == 503
                    assert int(response.headers["Retry-After"]) >= 1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask) for _ in range(8)]
        try:
            for _ in range(3):
                time.sleep(0.4)
                [worker] = survivor.workers()
                worker.kill()
                assert psutil.wait_procs([worker], timeout=10)[1] == []
                time.sleep(0.2)
                survivor.wait_ready()
            time.sleep(0.5)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert statuses.count(200) > 20
    assert len(survivor.workers()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_drains_and_leaves_nothing(tiny_bundle: Path, number: signal.Signals) -> None:
    with running_server(str(tiny_bundle)) as server:
        workers = server.workers()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pending = pool.submit(server.embed, [f"text {n}" for n in range(500)])
            while not pending.done() and not httpx.get(f"{server.url}/report").json()["batches"]:
                time.sleep(0.005)
            server.process.send_signal(number)
            assert len(pending.result()) == 500
        assert server.process.wait(20) == 0
        assert not any(worker.is_running() for worker in workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_while_it_starts_ends_its_workers(
    tiny_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([*COMMAND, str(tiny_bundle), "--port", "0"], stdout=file, stderr=file)
    try:
        server, deadline = psutil.Process(process.pid), time.monotonic() + 30
        while not (workers := server.children()):
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(20) == 0, log.read_text()
        assert psutil.wait_procs(workers, timeout=10)[1] == []
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_workers_end_when_the_server_is_killed(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle)) as server:
        workers = server.workers()
        server.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive


def test_a_stopped_worker_makes_the_server_unready_until_it_goes_on(survivor: RunningServer) -> None:
    [worker] = survivor.workers()
    for _ in range(2):
        worker.suspend()
        deadline = time.monotonic() + 10
        while httpx.get(f"{survivor.url}/ready").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.resume()
        survivor.wait_ready()
        assert len(survivor.embed(["still here"])) == 1
    assert survivor.workers() == [worker]


def test_a_worker_that_stays_stopped_is_replaced_and_the_request_answered(survivor: RunningServer) -> None:
    [worker] = survivor.workers()
    worker.suspend()
    assert len(survivor.embed(["answered by the next one"])) == 1
    assert worker not in survivor.workers()


def test_two_replicas_share_the_work(tiny_bundle: Path) -> None:
    with running_server(str(tiny_bundle), "--devices", "cpu:0,cpu:1") as server:
        deadline = time.monotonic() + 20
        while httpx.get(f"{server.url}/ready").json()["models"][0]["ready_replicas"] < 2:
            assert time.monotonic() < deadline
        assert len(server.workers()) == 2
        server.embed([f"text {n}" for n in range(200)])
        replicas = {batch["replica"] for batch in httpx.get(f"{server.url}/report").json()["batches"]}
        assert replicas == {0, 1}


def test_malformed_requests_leave_the_server_answering(survivor: RunningServer) -> None:
    bodies: list[bytes] = [
        b"",
        b"{",
        b"\x00\xff",
        b'{"inputs": "a\\u0000b"}',
        b'{"inputs": "\\ud800"}',
        b'{"inputs": []}',
        b'{"inputs": ""}',
        b'{"inputs": 7}',
        b'{"inputs": {"deep": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
        json.dumps({"inputs": ["tiny"] * 100_000}).encode(),
        json.dumps({"inputs": "x" * 10_000_000}).encode(),
        b"[" * 100_000,
    ]
    for path in ("/embed", "/v1/embeddings"):
        for body in bodies:
            content = body.replace(b'"inputs"', b'"model": "m", "input"') if path != "/embed" else body
            started = time.monotonic()
            headers = {"Content-Type": "application/json"}
            response = httpx.post(f"{survivor.url}{path}", content=content, headers=headers)
            assert 400 <= response.status_code < 500, body[:80]
            assert "error" in response.json()
            assert len(response.content) < 2000
            assert time.monotonic() - started < 10
    assert len(survivor.embed(["still here"])) == 1


def test_a_bundle_that_is_replaced_on_disk_does_not_disturb_the_server(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    with running_server(str(copy)) as server:
        copy.rename(tmp_path / "elsewhere")
        time.sleep(1.2)
        assert len(server.embed(["still here"])) == 1
        assert httpx.get(f"{server.url}/v1/models").status_code == 200


def test_a_body_that_never_comes_gets_an_answer(survivor: RunningServer) -> None:
    host, port = survivor.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"X-Request-Timeout: 0.3\r\nContent-Length: 50\r\n\r\n{"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_a_missing_bundle_is_named(tmp_path: Path) -> None:
    error = start_and_fail(str(tmp_path / "nothing"))
    assert error.startswith("Error: ")
    assert "is not a bundle" in error


def test_a_damaged_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    graph = copy / "fp32" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\x00")
    assert "is damaged: fp32/model.onnx" in start_and_fail(str(copy))


def test_a_newer_bundle_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bundle, copy)
    manifest = json.loads((copy / "ridgeline.json").read_text())
    (copy / "ridgeline.json").write_text(json.dumps({**manifest, "format": 99}))
    assert "has format 99; this version of Ridgeline reads formats up to 1" in start_and_fail(str(copy))


def test_a_taken_port_is_an_error_that_says_what_to_do(tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another with --host or --port" in start_and_fail(str(tiny_bundle), "--port", str(port))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "int3"), "has no variant 'int3'; it has: fp32"),
        (("--runtime", "tensorflow"), "runtime 'tensorflow' is unknown; allowed: auto, onnxruntime, openvino"),
        (("--devices", "tpu:0"), "device 'tpu:0' is not available"),
        (("--devices", "cpu:0,cpu:0"), "name a device twice"),
    ],
)
def test_wrong_flags_are_explained(tiny_bundle: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in start_and_fail(str(tiny_bundle), *arguments)


def test_two_bundles_of_one_name_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / tiny_bundle.name
    shutil.copytree(tiny_bundle, other)
    assert f"two bundles share the name '{tiny_bundle.name}'" in start_and_fail(str(tiny_bundle), str(other))
