"""The engine without HTTP: the same scheduler and workers, driven by coroutines with token ids made beforehand.

`python -m experiments.lab.replay BUNDLE TEXTS --connections N …` prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.lab.config import server_config  # first: it sets what numpy reads when it is imported

import uvloop  # isort: skip

from experiments.lab import processes

from ridgeline_bench.corpus import corpus_from_file
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.loading import LoadedModel, load_models
from ridgeline_server.request import Request


async def replay(engine: Engine, inputs: Sequence[list[list[int]]], clients: int, seconds: float) -> dict[str, Any]:
    """Texts per second of a closed loop of `clients` coroutines over `inputs`, after a second of warm-up."""
    await engine.start()
    turns = itertools.cycle(inputs)
    done = 0
    is_over = False

    async def client() -> None:
        nonlocal done
        while not is_over:
            given = next(turns)
            await engine.submit(Request(model=None, inputs=given, truncate=None, received=time.monotonic()))
            done += len(given)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    await asyncio.sleep(1.0)
    before, cpu_before, began = done, _cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    texts, took = done - before, time.monotonic() - began
    cpu = [after - first for after, first in zip(_cpu_s(), cpu_before, strict=True)]
    is_over = True
    await asyncio.gather(*tasks)
    await engine.stop()
    per_text = {"engine_cpu_us": 1e6 * cpu[0] / texts, "workers_cpu_us": 1e6 * cpu[1] / texts}
    return {"texts_per_s": texts / took, **per_text}


def _cpu_s() -> tuple[float, float]:
    own, *workers = processes.tree(os.getpid())
    return processes.cpu_s(own), sum(map(processes.cpu_s, workers))


def token_ids(model: LoadedModel, texts: Sequence[str], texts_per_request: int) -> list[list[list[int]]]:
    """The token ids of the texts, as each request gives them."""
    ids = [entry.ids.tolist() for entry in model.tokenizer.tokenizer.encode(list(texts), True)]
    return [ids[start : start + texts_per_request] for start in range(0, len(ids), texts_per_request)]


def main() -> None:
    """Read the arguments and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--texts-per-request", type=int, default=1)
    parser.add_argument("--duration", type=float, default=3.0)
    arguments, flags = parser.parse_known_args()
    config = server_config(arguments.bundle, flags)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        models = load_models(config, lambda record: None)
        inputs = token_ids(models[0], corpus_from_file(arguments.texts).texts, arguments.texts_per_request)
        engine = Engine(models, config)
        print(json.dumps(runner.run(replay(engine, inputs, arguments.connections, arguments.duration))))


if __name__ == "__main__":
    main()
