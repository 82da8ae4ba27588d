"""A lone polite client beside a load: what it sees, all the time, tells when the server is back to normal."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.lab.client import Client, embeddings_body

from ridgeline_bench.corpus import corpus_from_file

_EVERY_S = 0.1
_WINDOW = 5
_SLACK = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request of the probe. at: instant of CLOCK_MONOTONIC at which it was sent; status: 0 = no answer."""

    at: float
    status: int
    seconds: float


class Probe:
    """Sends a request every tenth of a second, whatever became of the last one, inside its `with` block."""

    def __init__(self, port: int, model: str, texts: Path) -> None:
        self.seen: list[Seen] = []
        self._port = port
        self._bodies = [embeddings_body(model, [text]) for text in corpus_from_file(texts).texts]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        free: list[Client] = []
        tasks: set[asyncio.Task[None]] = set()
        bodies = itertools.cycle(self._bodies)
        while not self._stopping.is_set():
            client = free.pop() if free else Client(self._port)
            task = asyncio.create_task(self._ask(client, next(bodies), free))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(_EVERY_S)
        await asyncio.gather(*tasks)
        for client in free:
            client.close()

    async def _ask(self, client: Client, body: bytes, free: list[Client]) -> None:
        asked = time.monotonic()
        try:
            status, _, _ = await client.post("/v1/embeddings", body)
        except (OSError, EOFError):
            status = 0
        self.seen.append(Seen(asked, status, time.monotonic() - asked))
        free.append(client)


def seconds_until_normal(seen: Sequence[Seen], since: float, usual_p50_s: float) -> float | None:
    """Seconds from `since` until the first of five requests in a row that got 200 with a usual median.

    usual_p50_s: median latency under an ordinary load; twice as much is still usual
    None when that never happened.
    """
    after = sorted((each for each in seen if each.at >= since), key=lambda each: each.at)
    for start in range(len(after) - _WINDOW + 1):
        window = after[start : start + _WINDOW]
        median_s = sorted(each.seconds for each in window)[_WINDOW // 2]
        if all(each.status == 200 for each in window) and median_s <= _SLACK * usual_p50_s:
            return window[0].at - since
    return None
