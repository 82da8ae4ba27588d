"""A real `ridgeline serve` for tests: started as a user starts it, on a free port."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

COMMAND = (sys.executable, "-P", "-c", "from ridgeline_server.cli import main; main()", "serve")
_START_S = 60


@dataclass
class RunningServer:
    """A started server. `process` is the HTTP process, its only children are the workers."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def embed(self, texts: list[str], **fields: object) -> list[list[float]]:
        """Vectors of texts through /embed; raises httpx.HTTPStatusError."""
        response = httpx.post(f"{self.url}/embed", json={"inputs": texts, **fields}, timeout=60)
        response.raise_for_status()
        vectors: list[list[float]] = response.json()
        return vectors

    def wait_ready(self, within_s: float = 20) -> None:
        end = time.monotonic() + within_s
        while httpx.get(f"{self.url}/ready", timeout=5).status_code != 200:
            assert time.monotonic() < end, f"not ready within {within_s} s:\n{self.log.read_text()}"
            time.sleep(0.05)


def is_dead(process: psutil.Process) -> bool:
    """True for a process that is gone, or only waits to be reaped."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def running_server(*arguments: str) -> Iterator[RunningServer]:
    """Start `ridgeline serve` with these arguments; it is ready inside the block and gone after it."""
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen([*COMMAND, *arguments, "--port", "0"], stdout=log, stderr=log, text=True)
        try:
            yield RunningServer(process, _wait_url(process, Path(log.name)), Path(log.name))
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()


def _wait_url(process: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"Ready in .* at (http://\S+?)[,.] ", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")
