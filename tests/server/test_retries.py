"""What becomes of failed batches, by table."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from ridgeline_server.engine.job import Assignment, Item, Job
from ridgeline_server.engine.retries import MOST_LONE_FAILURES, MOST_LONE_KILLS, judge
from ridgeline_server.errors import ExecutionError, UnavailableError
from ridgeline_server.request import Instants, Request
from ridgeline_server.sequences import Tokens


@pytest.fixture
async def items() -> AsyncIterator[list[Item]]:
    request = Request(None, ["a"], None, 0.0)
    tokens = Tokens(np.array([1], np.int32), None, False, input=7)

    def item() -> Item:
        job = Job(request, asyncio.get_running_loop().create_future(), Instants())
        job.items = [Item(job, 0, tokens)]
        return job.items[0]

    yield [item() for _ in range(5)]


async def test_a_batch_that_never_started_goes_again_as_it_is(items: list[Item]) -> None:
    verdict = judge(Assignment(1, items), "crash", is_outside_kill=False)
    assert [(retry.items, retry.is_alone) for retry in verdict.retries] == [(items, False)]
    assert not verdict.failures


async def test_a_running_batch_is_retried_in_halves_alone(items: list[Item]) -> None:
    verdict = judge(Assignment(1, items, is_started=True), "crash", is_outside_kill=False)
    assert [retry.items for retry in verdict.retries] == [items[:3], items[3:]]
    assert all(retry.is_alone for retry in verdict.retries)
    assert not any(item.lone_failures for item in items)


async def test_one_sequence_is_guilty_after_failing_alone_twice(items: list[Item]) -> None:
    lone = Assignment(1, items[:1], is_alone=True, is_started=True)
    for _ in range(MOST_LONE_FAILURES - 1):
        assert len(judge(lone, "crash", is_outside_kill=False).retries) == 1
    verdict = judge(lone, "SEGV", is_outside_kill=False)
    assert not verdict.retries
    [(item, error)] = verdict.failures
    assert item is items[0]
    assert isinstance(error, ExecutionError)
    assert "SEGV" in str(error)
    # a sequence's number is not that of the input that it is a window of
    assert str(error).startswith("input 7 failed") and error.index == 7


async def test_a_single_sequence_beside_others_is_not_yet_suspect(items: list[Item]) -> None:
    verdict = judge(Assignment(1, items[:1], is_started=True), "crash", is_outside_kill=False)
    assert items[0].lone_failures == 0
    assert verdict.retries[0].is_alone


async def test_kills_from_outside_make_nobody_guilty(items: list[Item]) -> None:
    lone = Assignment(1, items[:1], is_alone=True, is_started=True)
    for _ in range(MOST_LONE_KILLS - 1):
        assert len(judge(lone, "killed", is_outside_kill=True).retries) == 1
    [(_, error)] = judge(lone, "killed", is_outside_kill=True).failures
    assert isinstance(error, UnavailableError)
    assert error.retry_after_s > 0
    assert items[0].lone_failures == 0


async def test_requests_that_are_over_are_forgotten(items: list[Item]) -> None:
    for item in items:
        item.job.future.cancel()
    verdict = judge(Assignment(1, items, is_started=True), "crash", is_outside_kill=False)
    assert not verdict.retries
    assert not verdict.failures
