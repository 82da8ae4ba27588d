"""A served model whose worker misbehaves: who gets which answer, and whether service goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import psutil
import pytest

from ridgeline_server.engine.replica import ReplicaState
from ridgeline_server.errors import ExecutionError, UnavailableError
from ridgeline_server.request import BatchRecord
from tests.server.faulty_model import answer, plan, served, submit
from tests.server.faulty_worker import ABORT, HANG, KILLED, RAISE, SLOW


async def test_every_sequence_gets_its_own_answer_in_order() -> None:
    records: list[BatchRecord] = []
    async with served([plan(concurrency=2)], records.append) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        futures = [submit(model, [n], [n, n + 2], list(range(40))) for n in range(50)]
        answers = await asyncio.gather(*map(answer, futures))
    assert answers == [[n, n + 1, 19.5] for n in range(50)]
    assert sum(record.rows for record in records) == 150
    assert sum(record.real_tokens for record in records) == sum(record.flops for record in records) == 50 * 43
    assert all(record.padded_tokens >= record.real_tokens for record in records)
    assert {record.share for record in records} == {0.5}
    # a FLOP a token, at the half of the peak that each of two batches has
    assert all(record.predicted_s == record.executed_flops / (record.peak_flops_per_s / 2) for record in records)
    assert {record.bound for record in records} == {"compute"}


@pytest.mark.parametrize("poison", [ABORT, RAISE])
async def test_only_the_guilty_request_fails(poison: int) -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        slow = submit(model, [SLOW])
        await asyncio.sleep(0.05)
        mates = [submit(model, [n]) for n in range(5)]
        guilty = submit(model, [poison])
        mates += [submit(model, [n]) for n in range(5, 10)]
        with pytest.raises(ExecutionError, match="failed 2 times while running alone"):
            await answer(guilty)
        assert [await answer(mate) for mate in mates] == [[n] for n in range(10)]
        assert await answer(slow) == [SLOW]
        assert await answer(submit(model, [7])) == [7]


async def test_a_killed_worker_loses_no_request() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        futures = [submit(model, [SLOW, n]) for n in range(20)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            pid = model.replicas[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        answers = [await answer(future) for future in futures]
        assert answers == [[(SLOW + n) / 2] for n in range(20)]
        assert model.ready_replicas == 1


async def test_a_request_whose_worker_is_always_killed_is_told_to_come_back() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        with pytest.raises(UnavailableError):
            await answer(submit(model, [KILLED]))
        assert await answer(submit(model, [3])) == [3]


async def test_a_wedged_worker_is_replaced_and_its_request_is_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridgeline_server.engine.replica._LEAST_BOUND_S", 0.5)
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        with pytest.raises(ExecutionError, match="hung"):
            await answer(submit(model, [HANG]))
        assert await answer(submit(model, [5])) == [5]


async def test_the_other_replica_serves_while_one_starts_again() -> None:
    async with served([plan(), plan()]) as model:
        while model.ready_replicas < 2:
            await asyncio.sleep(0.02)
        pid = model.replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while model.replicas[0].state is ReplicaState.READY:
            await asyncio.sleep(0.001)
        assert await answer(submit(model, [1])) == [1]
        assert model.ready_replicas == 1


async def test_work_of_a_client_that_left_is_dropped() -> None:
    records: list[BatchRecord] = []
    async with served([plan()], records.append) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        busy = []
        for _ in range(2):  # one runs, one waits behind it
            busy.append(submit(model, [SLOW] * 60))
            await asyncio.sleep(0.05)
        left = submit(model, *[[n] for n in range(20)])
        left.cancel()
        await asyncio.sleep(0)
        assert (model.queued_sequences, model.queued_tokens) == (0, 0)
        for future in busy:
            await answer(future)
        assert await answer(submit(model, [4])) == [4]
    assert sum(record.rows for record in records) == 3


async def test_a_plan_that_cannot_be_loaded_says_why() -> None:
    async with served([plan("broken")]) as model:
        while model.load_error is None:
            await asyncio.sleep(0.02)
        assert "the graph makes no sense" in model.load_error
        with pytest.raises(UnavailableError, match="loading"):
            model.check_available()


async def test_stopping_leaves_no_process_behind() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        submit(model, [HANG])
        await asyncio.sleep(0.1)
        pid = model.replicas[0].pid
        assert pid is not None
    assert not psutil.pid_exists(pid)


async def test_a_worker_that_cannot_be_started_is_tried_again_and_told_of() -> None:
    async with served([plan()], command=("/no/such/program",)) as model:
        while model.replicas[0].failed_starts < 2:
            await asyncio.sleep(0.02)
        assert model.replicas[0].state is not ReplicaState.READY
        assert model.reasons == ["replica 0 is down"]


async def test_stopping_does_not_wait_for_a_restart_that_is_due() -> None:
    async with served([plan()], command=("/no/such/program",)) as model:
        replica = model.replicas[0]
        replica._backoff.failures = 20  # the next restart is due in ten seconds
        while replica.failed_starts < 21:
            await asyncio.sleep(0.02)
        started = time.monotonic()
        await model.stop()
        assert time.monotonic() - started < 5


async def test_any_signal_is_survived() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        slow = submit(model, [SLOW])
        await asyncio.sleep(0.05)
        pid = model.replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGRTMIN + 5)
        assert await answer(slow) == [SLOW]


async def test_a_stopping_model_answers_what_still_waits() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        running, *queued = [submit(model, [HANG, n]) for n in range(20)]
        await asyncio.sleep(0.1)
        await model.stop()
        for future in (running, *queued):
            with pytest.raises(UnavailableError, match="stopping"):
                await answer(future)
        with pytest.raises(UnavailableError, match="stopping"):
            model.check_available()


async def test_an_observer_that_fails_costs_no_answer() -> None:
    def fail(record: BatchRecord) -> None:
        raise RuntimeError("the report is broken")

    async with served([plan()], fail) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        assert await answer(submit(model, [1])) == [1]
        assert await answer(submit(model, [2])) == [2]


async def test_a_request_of_many_texts_does_not_hold_up_others() -> None:
    async with served([plan()]) as model:
        await asyncio.wait_for(model.was_ready.wait(), 20)
        many = submit(model, *[[SLOW]] * 160)
        await asyncio.sleep(0.05)
        one = submit(model, [7])
        assert await answer(one) == [7]
        assert not many.done()
        assert len(await asyncio.wait_for(many, 60)) == 160
