"""Workers killed and stopped at random under load: every request answered, every answer right, nothing left over."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.docstrings import docstrings
from tests.server.running_server import RunningServer, is_dead, running_server

CLIENTS = 24
CHAOS_S = 3.0
MOST_TEXTS = 4
TEXTS = list(docstrings()[:120])
# In calm runs an answer differs from the same text's alone by 2e-7 at most, since shapes sum in orders of their own;
# the two closest texts of the corpus are 2e-2 apart.
TOLERANCE = 1e-5


@dataclass
class Load:
    """Clients that ask until they are told to stop."""

    server: RunningServer
    expected: np.ndarray
    stop: threading.Event = field(default_factory=threading.Event)
    statuses: list[int] = field(default_factory=list)
    worst: float = 0.0

    def ask(self, seed: int) -> None:
        rng = random.Random(seed)
        with httpx.Client(timeout=60) as client:
            while not self.stop.is_set():
                chosen = rng.sample(range(len(TEXTS)), rng.randint(1, MOST_TEXTS))
                response = client.post(f"{self.server.url}/embed", json={"inputs": [TEXTS[index] for index in chosen]})
                self.statuses.append(response.status_code)
                if response.status_code == 200:
                    error = float(np.abs(np.array(response.json()) - self.expected[chosen]).max())
                    self.worst = max(self.worst, error)


def torment(server: RunningServer, rng: random.Random) -> dict[signal.Signals, int]:
    """Kill and stop workers at random moments for CHAOS_S seconds, and until both befell one; some stopped ones go on.

    A lone worker is let come up in between: killed again and again while it loads, it would never serve.
    """
    is_alone = len(server.workers()) == 1
    done = {signal.SIGKILL: 0, signal.SIGSTOP: 0}
    end = time.monotonic() + CHAOS_S
    while time.monotonic() < end or not all(done.values()):
        if is_alone:
            server.wait_ready()
        time.sleep(rng.uniform(0.2, 0.8))
        workers = [worker for worker in server.workers() if not is_dead(worker)]
        if not workers:
            continue
        worker, number = rng.choice(workers), rng.choice(list(done))
        with suppress(psutil.NoSuchProcess):  # dead of the last blow, and just reaped
            worker.send_signal(number)
            done[number] += 1
            if number is signal.SIGSTOP and rng.random() < 0.5:
                time.sleep(rng.uniform(0.1, 1.5))
                worker.resume()
    return done


@pytest.fixture(params=["two replicas", "one replica"])
def server(request: pytest.FixtureRequest, tiny_bundle: Path) -> Iterator[RunningServer]:
    devices = ["--devices", "cpu:0,cpu:1"] if request.param == "two replicas" else []
    with running_server(str(tiny_bundle), *devices) as started:
        yield started


def test_chaos_costs_no_answer_and_leaves_nothing(server: RunningServer) -> None:
    replicas = len(server.workers())
    load = Load(server, np.array([server.embed([text])[0] for text in TEXTS]))
    process = psutil.Process(server.process.pid)
    before = process.num_fds()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load.ask, seed) for seed in range(CLIENTS)]
        try:
            torments = torment(server, random.Random(replicas))
        finally:
            load.stop.set()
        for client in clients:
            client.result()
    assert set(load.statuses) == {200}
    assert len(load.statuses) > CLIENTS
    assert load.worst < TOLERANCE
    assert all(torments.values())
    server.wait_ready()
    deadline = time.monotonic() + 20
    while len(server.workers()) != replicas or process.num_fds() > before or any(map(is_out, server.workers())):
        assert time.monotonic() < deadline, (server.workers(), process.num_fds(), before)
        time.sleep(0.1)
    assert len(server.embed(TEXTS[:3])) == 3


def is_out(worker: psutil.Process) -> bool:
    return is_dead(worker) or worker.status() == psutil.STATUS_STOPPED
