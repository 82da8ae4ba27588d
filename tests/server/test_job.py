"""A request's answers as they come in."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from ridgeline_server.engine.answer_size import most_array_bytes
from ridgeline_server.engine.job import Item, Job
from ridgeline_server.errors import RequestTooLargeError
from ridgeline_server.request import Instants, Request
from ridgeline_server.sequences import Readout, ReadoutKind, Tokens

BATCH: Any = Instants(started=1.0, finished=2.0)


async def test_answers_that_grow_too_large_fail_the_request_as_they_come() -> None:
    job = Job(Request(None, ["a"] * 3, None, 0.0), asyncio.get_running_loop().create_future(), Instants())
    job.items = [Item(job, index, Tokens(np.zeros(2, np.int32), None, False)) for index in range(3)]
    job.most_bytes = most_array_bytes(Readout(ReadoutKind.SPARSE), 16 * 100)
    for index in range(2):
        job.finish(index, np.zeros((6, 2), np.float32), BATCH)
        assert job.is_over is False
    job.finish(2, np.zeros((1, 2), np.float32), BATCH)
    with pytest.raises(
        RequestTooLargeError, match="the answer holds 104 bytes of numbers or more; one answer may hold"
    ):
        await job.future
    assert not job.answers, "nothing is held of what nobody gets"
