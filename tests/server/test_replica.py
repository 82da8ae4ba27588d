"""What can befall a worker: stopped, stuck, talking nonsense, killed at every moment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ridgeline_server.engine.model import ServedModel
from ridgeline_server.engine.replica import ReplicaState
from ridgeline_server.engine.watch import SILENT_AFTER_TICKS
from ridgeline_server.errors import ExecutionError, UnavailableError
from tests.server.faulty_model import answer, plan, served, submit
from tests.server.faulty_worker import ABORT, GARBAGE, HANG, HOLD, HUGE, KILLED, SLOW, SLOW_LOAD_S, UNKNOWN
from tests.server.running_server import is_dead


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives silent workers up a second earlier than a server does."""
    monkeypatch.setattr("ridgeline_server.engine.watch.LOST_AFTER_TICKS", SILENT_AFTER_TICKS + 2)


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def ready(model: ServedModel, replicas: int = 1) -> list[int]:
    """Process ids of the workers, once so many are ready."""
    await until(lambda: model.ready_replicas >= replicas)
    return [replica.pid for replica in model.replicas if replica.pid is not None]


async def test_a_stopped_worker_is_not_ready_and_is_again_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    async with served([plan()]) as model:
        [pid] = await ready(model)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: model.replicas[0].state is ReplicaState.UNRESPONSIVE, within_s=4)
        assert model.ready_replicas == 0
        assert model.reasons == ["replica 0 is unresponsive"]
        waiting = submit(model, [3])
        os.kill(pid, signal.SIGCONT)
        assert await answer(waiting) == [3]
        assert await ready(model) == [pid]


async def test_a_request_whose_worker_is_stopped_time_and_again_is_not_guilty() -> None:
    async with served([plan()]) as model:
        await ready(model)
        slow = submit(model, [SLOW])
        for _ in range(3):
            [pid] = await ready(model)
            await asyncio.sleep(0.05)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda dead=pid: model.replicas[0].pid != dead)  # type: ignore[misc]
        assert await answer(slow) == [SLOW]


async def test_the_other_replica_serves_while_one_is_stopped() -> None:
    async with served([plan(), plan()]) as model:
        first, _ = await ready(model, 2)
        os.kill(first, signal.SIGSTOP)
        answers = [submit(model, [number]) for number in range(20)]
        await until(lambda: model.ready_replicas == 1)
        later = [submit(model, [number]) for number in range(20)]
        assert [await answer(future) for future in later] == [[number] for number in range(20)]
        assert [await answer(future) for future in answers] == [[number] for number in range(20)]
        await ready(model, 2)


async def test_a_worker_stopped_while_loading_is_replaced() -> None:
    async with served([plan("slow")]) as model:
        await until(lambda: model.replicas[0].pid is not None)
        pid = model.replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: model.replicas[0].pid not in (None, pid), within_s=8)
        await ready(model)
        assert await answer(submit(model, [1])) == [1]


async def test_a_slow_load_is_no_silence() -> None:
    async with served([plan("slow")]) as model:
        await until(lambda: model.replicas[0].pid is not None)
        pid = model.replicas[0].pid
        await asyncio.sleep(SLOW_LOAD_S / 2)
        assert model.replicas[0].state is ReplicaState.LOADING
        assert await ready(model) == [pid]


async def test_a_worker_that_is_killed_while_loading_is_tried_again() -> None:
    async with served([plan("slow")]) as model:
        await until(lambda: model.replicas[0].pid is not None)
        pid = model.replicas[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: model.replicas[0].pid != pid)
        await ready(model)
        assert await answer(submit(model, [1])) == [1]


async def test_a_runtime_that_holds_the_interpreter_for_good_is_found() -> None:
    async with served([plan(), plan()]) as model:
        await ready(model, 2)
        with pytest.raises(ExecutionError, match="gave no sign of life and was killed"):
            await answer(submit(model, [HOLD]))
        assert await answer(submit(model, [1])) == [1]


@pytest.mark.parametrize(
    ("poison", "complaint"),
    [(GARBAGE, "make no message"), (HUGE, "is announced, at most"), (UNKNOWN, "batch 123456, which it does not have")],
)
async def test_a_worker_that_talks_nonsense_is_replaced(
    poison: int, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    async with served([plan()]) as model:
        [pid] = await ready(model)
        mates = [submit(model, [SLOW, number]) for number in range(3)]
        with pytest.raises(ExecutionError, match=complaint):
            await answer(submit(model, [poison]))
        assert [await answer(mate) for mate in mates] == [[(SLOW + number) / 2] for number in range(3)]
        assert pid not in await ready(model)
    assert not unhandled


async def test_one_that_cannot_start_leaves_the_others_serving() -> None:
    async with served([plan(), plan("crashing")]) as model:
        await ready(model)
        await until(lambda: model.replicas[1].failed_starts >= 4)
        for number in range(10):
            assert await answer(submit(model, [number])) == [number]
        model.check_available()
        assert model.replicas[0].state is ReplicaState.READY


async def test_both_replicas_killed_at_once_lose_nothing() -> None:
    async with served([plan(concurrency=2), plan(concurrency=2)]) as model:
        pids = await ready(model, 2)
        futures = [submit(model, [SLOW, number]) for number in range(30)]
        await asyncio.sleep(0.1)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert [await answer(future) for future in futures] == [[(SLOW + number) / 2] for number in range(30)]


async def test_killed_again_while_lone_retries_wait_nobody_is_lost() -> None:
    async with served([plan()]) as model:
        await ready(model)
        futures = [submit(model, [SLOW, number]) for number in range(12)]
        for _ in range(4):
            [pid] = await ready(model)
            await asyncio.sleep(0.1)
            os.kill(pid, signal.SIGKILL)
            await until(lambda dead=pid: model.replicas[0].pid != dead)  # type: ignore[misc]
        assert [await answer(future) for future in futures] == [[(SLOW + number) / 2] for number in range(12)]


async def test_a_text_that_takes_all_memory_costs_its_mates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ridgeline_server.engine.backoff._LONGEST_KILLED_S", 0.0)
    async with served([plan()]) as model:
        await ready(model)
        busy = submit(model, [SLOW])
        await asyncio.sleep(0.05)
        mates = [submit(model, [number]) for number in range(8)]
        poison = submit(model, [KILLED])
        mates += [submit(model, [number]) for number in range(8, 15)]
        with pytest.raises(UnavailableError, match="killed 6 times while running this request"):
            await answer(poison)
        assert [await answer(mate) for mate in mates] == [[number] for number in range(15)]
        assert await answer(busy) == [SLOW]


async def test_stopping_a_model_whose_worker_is_stopped_takes_no_longer_than_the_grace() -> None:
    async with served([plan()]) as model:
        [pid] = await ready(model)
        os.kill(pid, signal.SIGSTOP)
        hung = submit(model, [HANG])
        await asyncio.sleep(0.05)
        await asyncio.wait_for(model.stop(), 5)
        with pytest.raises(UnavailableError, match="stopping"):
            await answer(hung)
        assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.01, 0.05])
async def test_stopping_while_a_worker_dies(pause_s: float) -> None:
    before = psutil.Process().children()  # other tests may have left helpers of their own
    async with served([plan()]) as model:
        [pid] = await ready(model)
        dying = submit(model, [ABORT])
        os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(pause_s)
        await asyncio.wait_for(model.stop(), 5)
        with pytest.raises(UnavailableError):
            await answer(dying)
    assert set(psutil.Process().children()) <= set(before)


async def test_a_model_that_fails_to_retry_does_not_keep_the_next_worker_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a bug")

    async with served([plan()]) as model:
        [pid] = await ready(model)
        monkeypatch.setattr(model, "on_died", fail)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: model.replicas[0].pid != pid)
        await ready(model)
        assert await answer(submit(model, [1])) == [1]


async def test_a_batch_that_cannot_be_sent_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ridgeline_server.engine.replica._LEAST_BOUND_S", 0.5)
    async with served([plan()]) as model:
        [pid] = await ready(model)
        worker = model.replicas[0]._worker
        assert worker is not None
        with monkeypatch.context() as patch:
            patch.setattr(worker, "send", fail)
            with pytest.raises(ExecutionError, match="could not be sent"):
                await answer(submit(model, [1]))
        await asyncio.sleep(1.2)
        assert await answer(submit(model, [2])) == [2]
        assert await ready(model) == [pid]


SERVER = textwrap.dedent("""
    import asyncio, sys
    from tests.server.faulty_model import plan, served, submit

    async def main():
        async with served([plan(sys.argv[1])]) as model:
            while model.replicas[0].pid is None:
                await asyncio.sleep(0.01)
            print(model.replicas[0].pid, flush=True)
            await model.was_ready.wait()
            submit(model, [int(sys.argv[2])])
            await asyncio.sleep(0.1)
            print("running", flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
""")


@pytest.mark.parametrize("moment", ["loading", "running", "holding", "stopped"])
def test_workers_end_when_the_server_is_killed(moment: str) -> None:
    poison = HOLD if moment == "holding" else HANG
    command = [sys.executable, "-c", SERVER, "slow" if moment == "loading" else "fp32", str(poison)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        if moment == "loading":
            while worker.num_threads() < 2:  # the interpreter's own start
                time.sleep(0.01)
        else:
            assert server.stdout.readline() == "running\n"
        if moment == "stopped":
            worker.suspend()
        server.kill()
        _, alive = psutil.wait_procs([worker], timeout=10 if moment != "loading" else SLOW_LOAD_S / 2)
    assert all(map(is_dead, alive))  # its new parent may be slow to reap it


def test_two_hundred_kills_leak_nothing() -> None:
    command = [sys.executable, "-m", "tests.server.many_kills"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    grown = shown["late"].pop("bytes") - shown["early"].pop("bytes")
    assert grown < 1024 * 1024
    assert shown["late"] == shown["early"]
    assert shown["queued"] == {"sequences": 0}
    assert shown["stopped"]["children"] == 0
    assert shown["stopped"]["tasks"] == 1
