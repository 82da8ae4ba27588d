"""A Ridgeline server under test: started on a free port, watched, and stopped."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.lab import processes

_READY_S = 120.0
_STOP_S = 40.0
_POLL_S = 0.01
_ANSWERED = re.compile(r'^ridgeline_requests_total\{.*route="([^"]*)".*status="(\d+)".*\} ([0-9.e+]+)$', re.MULTILINE)


class ServerError(Exception):
    """The server under test did not start or did not stop; the message says where its log is."""


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds of CPU so far: the server's own process, and its workers together."""

    server_s: float
    workers_s: float

    def __sub__(self, before: CpuTimes) -> CpuTimes:
        return CpuTimes(self.server_s - before.server_s, self.workers_s - before.workers_s)


class Server:
    """`ridgeline serve BUNDLE FLAGS` as a context manager; ready when the block begins.

    bundle:  None = the flags name the models
    key:     API key that the flags make it ask for
    url:     its address
    ready_s: seconds from starting the process until GET /ready answered 200
    """

    def __init__(self, bundle: Path | None, flags: Sequence[str], log: Path, key: str | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ready_s = 0.0
        self.log = log
        self.key = key
        command = Path(sys.executable).with_name("ridgeline")
        bundles = [] if bundle is None else [str(bundle)]
        self._command = [str(command), "serve", *bundles, "--port", str(self.port), *flags]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            self._wait_ready(began)
        except BaseException:
            self._process.kill()
            raise
        self.ready_s = time.monotonic() - began
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise ServerError(f"the server did not end within {_STOP_S:g} s of SIGTERM; see {self.log}") from None
        if status:
            raise ServerError(f"the server ended with status {status}; see {self.log}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self) -> list[int]:
        """Its own process id first, then its workers'."""
        return processes.tree(self.pid)

    def workers(self) -> list[int]:
        return self.pids()[1:]

    def cpu(self) -> CpuTimes:
        """CPU time so far; of the workers that live."""
        own, *workers = self.pids()
        return CpuTimes(processes.cpu_s(own), sum(map(processes.cpu_s, workers)))

    def answered(self, route: str = "/v1/embeddings") -> int:
        """Requests to the route that got 200, since the start, by the server's own count."""
        samples = _ANSWERED.findall(self.get("/metrics").decode())
        return sum(int(float(count)) for where, status, count in samples if (where, status) == (route, "200"))

    def get(self, path: str) -> bytes:
        """The body of a 200. Raises ServerError otherwise."""
        status, body = _get(self.port, path, self.key)
        if status != 200:
            raise ServerError(f"GET {path} answers {status}; see {self.log}")
        return body

    def said(self) -> list[str]:
        """The first lines of its log: which plan runs, and why."""
        return [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()][:3]

    def _wait_ready(self, began: float) -> None:
        assert self._process is not None
        while time.monotonic() - began < _READY_S:
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with status {self._process.returncode}; see {self.log}")
            try:
                if _get(self.port, "/ready", self.key)[0] == 200:
                    return
            except OSError:
                pass  # it does not listen yet
            time.sleep(_POLL_S)
        raise ServerError(f"the server was not ready within {_READY_S:g} s; see {self.log}")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _get(port: int, path: str, key: str | None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={} if key is None else {"Authorization": f"Bearer {key}"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()
