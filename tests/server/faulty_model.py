"""A served model over a worker that misbehaves as it is told, without HTTP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ridgeline_server.engine.backlog import Backlog
from ridgeline_server.engine.job import Item, Job
from ridgeline_server.engine.model import ServedModel
from ridgeline_server.engine.turns import Turns
from ridgeline_server.request import BatchRecord, Instants, Request
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.grid import make_grid
from ridgeline_server.runtimes.token_grid import make_token_grid
from ridgeline_server.sequences import Float32Array, Tokens

WORKER = (sys.executable, str(Path(__file__).with_name("faulty_worker.py")))


class Costs:
    """One FLOP a token."""

    def sequences(self, lengths: Sequence[int]) -> float:
        return float(sum(lengths))

    def executed(self, shape: tuple[int, int]) -> float:
        return float(shape[0] * shape[1])

    def filling(self, tokens: int) -> float:
        return float(tokens)


def plan(variant: str = "fp32", concurrency: int = 1) -> Plan:
    return Plan(
        variant, "fake", Path("x"), "fp32", concurrency, concurrency, make_grid(64, 256), 0, ("last_hidden_state",), ""
    )


def packed_plan(concurrency: int = 2) -> Plan:
    """A plan whose batches are packed and take turns."""
    return replace(
        plan(concurrency=concurrency),
        grid=make_token_grid(64, 256),
        outputs=("pooled",),
        pools_as="mean",
        has_turns=True,
    )


@asynccontextmanager
async def served(
    plans: Sequence[Plan],
    observe: Callable[[BatchRecord], None] = lambda record: None,
    command: Sequence[str] = WORKER,
    turns: Turns | None = None,
) -> AsyncIterator[ServedModel]:
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(pooling="mean"))
    costs: Any = Costs()
    model = ServedModel(
        "m",
        bundle,
        list(plans),
        costs=costs,
        max_age_s=0.1,
        backlog=Backlog(10_000, 60.0),
        observe=observe,
        worker_command=command,
        turns=turns,
    )
    for replica in model.replicas:
        replica.start()
    try:
        yield model
    finally:
        await model.stop()


def submit(model: ServedModel, *sequences: list[int]) -> asyncio.Future[list[Float32Array]]:
    now = time.monotonic()
    job = Job(Request(None, list(sequences), None, now), asyncio.get_running_loop().create_future(), Instants(now, now))
    job.items = [
        Item(job, number, Tokens(np.array(ids, np.int32), None, False)) for number, ids in enumerate(sequences)
    ]
    model.enqueue(job)
    return job.future


async def answer(future: asyncio.Future[list[Float32Array]]) -> list[float]:
    vectors = await asyncio.wait_for(future, timeout=20)
    return [float(vector[0]) for vector in vectors]
