"""Kills a served model's worker 200 times and prints what the process holds, early and at the end.

A program, for a process of its own: in the tests' process the garbage of other tests comes and goes meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import psutil

from ridgeline_server.engine import backoff
from ridgeline_server.engine.framing import encode
from ridgeline_server.engine.messages import Loaded
from tests.server.faulty_model import plan, served, submit

KILLS = 200
EARLY_KILLS = 50
# Ready at once and idle: a start takes milliseconds.
FAST_WORKER = """
import socket, sys
connection = socket.socket(fileno=int(sys.argv[2]))
connection.sendall(bytes.fromhex(sys.argv[1]))
while connection.recv(65536):
    pass
"""


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def holdings() -> dict[str, int]:
    """Counts, and resident bytes, once what ended is cleared away."""
    await asyncio.sleep(0.2)
    gc.collect()
    process = psutil.Process()
    return {
        "descriptors": process.num_fds(),
        "children": len(process.children(recursive=True)),
        "threads": process.num_threads(),
        "tasks": len(asyncio.all_tasks()),
        "bytes": process.memory_info().rss,
    }


async def main() -> None:
    backoff._LONGEST_KILLED_S = 0.0
    logging.disable(logging.CRITICAL)
    loaded = b"".join(encode(Loaded(1e9, dict.fromkeys(plan().grid.shapes, 0.01)))).hex()
    command = (sys.executable, "-I", "-S", "-c", FAST_WORKER, loaded)
    shown = {}
    async with served([plan()], command=command) as model:
        [replica] = model.replicas
        for number in range(KILLS):
            await until(lambda: model.ready_replicas == 1)
            if number == EARLY_KILLS:
                shown["early"] = await holdings()
            if number % 3 == 0:
                submit(model, [number]).cancel()
            pid = replica.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda dead=pid: replica.pid != dead)  # type: ignore[misc]
        await until(lambda: model.ready_replicas == 1)
        shown["late"] = await holdings()
        shown["queued"] = {"sequences": model.queued_sequences}
    shown["stopped"] = await holdings()
    print(json.dumps(shown))


if __name__ == "__main__":
    asyncio.run(main())
