"""Models that are loaded, replaced and unloaded under load: no request is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from ridgeline_export.bundle import Bundle
from ridgeline_server.config import ModelSettings, Overlong, ServerConfig
from ridgeline_server.engine import loading
from ridgeline_server.engine.engine import Engine
from ridgeline_server.engine.fleet import Fleet, Stage
from ridgeline_server.engine.loading import load_models
from ridgeline_server.engine.model import ServedModel
from ridgeline_server.errors import (
    ConflictError,
    LoadError,
    ReplacedError,
    RequestTooLargeError,
    UnavailableError,
    UnknownModelError,
)
from ridgeline_server.request import Request, Result
from ridgeline_server.runtimes.base import Plan
from tests.server.faulty_model import WORKER


@dataclass
class Held:
    """A fleet over workers that do what `variant` says, and its engine."""

    fleet: Fleet
    engine: Engine
    settings: ModelSettings
    change: Callable[[str | None], None]

    async def ask(self, *ids: int, version: int | None = None, **fields: object) -> Result:
        now = time.monotonic()
        asked = Request(self.settings.name, [list(ids)], None, now, now + 30, False, version=version)
        return await self.engine.submit(replace(asked, **fields))


Start = Callable[..., AbstractAsyncContextManager[Held]]


@pytest.fixture
def held(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts a fleet of one model."""
    plans = loading.choose_plans
    variant: list[str | None] = [None]
    monkeypatch.setattr(loading, "ServedModel", partial(ServedModel, worker_command=WORKER))

    def choose(bundle: Bundle, config: ServerConfig) -> list[Plan]:
        return [replace(plan, variant=variant[0] or plan.variant) for plan in plans(bundle, config)]

    def change(name: str | None) -> None:
        variant[0] = name

    monkeypatch.setattr(loading, "choose_plans", choose)

    @asynccontextmanager
    async def started(**flags: object) -> AsyncIterator[Held]:
        settings = ModelSettings("m", tiny_bundle)
        config = replace(ServerConfig(bundles=(), models=(settings,), drain_timeout_s=1.0), **flags)
        engine = Engine(load_models(config, lambda record: None), config)
        fleet = Fleet(engine, config, lambda record: None)
        await fleet.start()
        try:
            yield Held(fleet, engine, settings, change)
        finally:
            await fleet.stop()

    return started


def workers() -> set[int]:
    """Process ids of this process's workers."""
    return {child.pid for child in psutil.Process().children() if WORKER[1] in child.cmdline()}


def holdings() -> tuple[int, int]:
    """Workers and open files of this process."""
    return len(workers()), psutil.Process().num_fds()


def tokenizer_threads() -> int:
    return sum(thread.name.startswith("tokenizer-") for thread in threading.enumerate())


async def settled(fleet: Fleet) -> None:
    """Once old versions have ended."""
    while any(state.stage is Stage.DRAINING for state in fleet.states()):
        await asyncio.sleep(0.01)


async def test_versions_follow_each_other_under_load_and_no_request_is_lost(held: Start) -> None:
    async with held() as it:
        seen: Counter[int] = Counter()
        read_again = 0
        is_over = False

        async def client(number: int) -> None:
            nonlocal read_again
            while not is_over:
                (info,) = it.engine.models()
                await asyncio.sleep(0)  # as a body that is parsed in a thread
                try:
                    result = await it.ask(number, number + 2, version=info.version)
                    assert result.version == info.version
                except ReplacedError:
                    read_again += 1
                    result = await it.ask(number, number + 2)
                assert np.all(result.outputs == number + 1)
                seen[result.version] += 1

        changes: list[int] = []
        it.fleet.watch(lambda: changes.append(len(it.engine.models())))
        before: tuple[int, int] | None = None
        threads = tokenizer_threads()
        clients = [asyncio.create_task(client(number)) for number in range(5, 21)]
        for version in range(2, 5):
            assert (await it.fleet.load(it.settings)).version == version
            await settled(it.fleet)
            before = before or holdings()
            await asyncio.sleep(0.05)
        is_over = True
        await asyncio.gather(*clients)
        assert set(seen) == set(range(1, 5))
        async with asyncio.timeout(20):  # threads end a moment after they were told to
            # Fewer files are left where the garbage of earlier tests has gone meanwhile.
            while tokenizer_threads() > threads or any(
                now > then for now, then in zip(holdings(), before or (), strict=True)
            ):
                await asyncio.sleep(0.01)
        assert changes == [1] * 6
        (info,) = it.engine.models()
        assert (info.version, info.ready_replicas) == (4, 1)
    assert not workers()


async def test_what_an_old_version_took_in_it_answers(held: Start) -> None:
    async with held() as it:
        it.change("lagging")
        assert (await it.fleet.load(it.settings)).version == 2
        waiting = [asyncio.create_task(it.ask(*range(5, 25), 5 + n)) for n in range(40)]
        await asyncio.sleep(0.05)
        it.change(None)
        assert (await it.fleet.load(it.settings)).version == 3
        assert [state.stage for state in it.fleet.states()] == [Stage.SERVING, Stage.DRAINING]
        assert (await it.ask(7)).version == 3
        assert not all(task.done() for task in waiting)
        assert {(await task).version for task in waiting} == {2}
        with pytest.raises(ReplacedError, match="version 2 of model 'm' was replaced"):
            await it.ask(7, version=2)

        it.change("lagging")
        await it.fleet.load(it.settings)
        waiting = [asyncio.create_task(it.ask(*range(5, 25), 5 + n)) for n in range(20)]
        await asyncio.sleep(0.05)
        assert (await it.fleet.unload("m")).version == 4
        assert {task.result().version for task in waiting} == {4}
        for name, error in (("m", UnknownModelError), (None, UnavailableError)):
            with pytest.raises(error):
                await it.engine.submit(Request(name, [[5]], None, 0.0))
            with pytest.raises(error):
                it.engine.retry_after(name)
        assert not it.engine.is_ready()
        assert it.fleet.states() == []
        with pytest.raises(UnknownModelError):
            await it.fleet.unload("m")
        it.change(None)
        assert (await it.fleet.load(it.settings)).version == 5


async def test_a_version_that_cannot_be_loaded_changes_nothing(
    held: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held() as it:
        children = workers()
        for variant, said in (
            ("broken", "the graph makes no sense"),
            ("crashing", "a worker of model 'm' ends before"),
        ):
            it.change(variant)
            with pytest.raises(LoadError, match=said):
                await it.fleet.load(it.settings)
            assert said in it.fleet.failures()["m"]
        with pytest.raises(LoadError, match=r"model 'n' cannot be loaded: .* is not a bundle"):
            await it.fleet.load(ModelSettings("n", tmp_path))
        with pytest.raises(LoadError, match="core 4096 cannot be used"):
            await it.fleet.load(replace(it.settings, cores=(4096,)))
        with monkeypatch.context() as patch, pytest.raises(LoadError, match=r"its weights take .* 0 MiB of memory are"):
            patch.setattr("ridgeline_server.engine.fleet.free_bytes", lambda: 1000)
            await it.fleet.load(it.settings)
        assert (await it.ask(7)).version == 1
        assert workers() == children
        assert set(it.fleet.failures()) == {"m", "n"}
        it.change(None)
        peak = it.engine.loaded[0].served.replicas[0].load.peak_flops_per_s
        limited = replace(it.settings, max_request_tokens=3, overlong=Overlong.ERROR)
        assert (await it.fleet.load(limited)).version == 2
        assert set(it.fleet.failures()) == {"n"}
        assert it.engine.loaded[0].served.replicas[0].load.peak_flops_per_s == peak
        with pytest.raises(RequestTooLargeError, match="one request may hold"):
            await it.ask(5, 6, 7, 8)


async def test_one_load_of_a_name_at_a_time_and_a_stop_ends_them(held: Start) -> None:
    async with held() as it:
        it.change("slow")
        first = asyncio.create_task(it.fleet.load(it.settings))
        other = asyncio.create_task(it.fleet.load(replace(it.settings, name="other")))
        await asyncio.sleep(0)
        for refused in (it.fleet.load(it.settings), it.fleet.unload("m")):
            with pytest.raises(ConflictError, match="model 'm' is being loaded"):
                await refused
        assert [state.stage for state in it.fleet.states()] == [Stage.SERVING, Stage.LOADING, Stage.LOADING]
        first.cancel()  # its client left: it goes on
        while len(workers()) < 2:
            await asyncio.sleep(0.01)
        assert (await it.ask(7)).version == 1
        it.fleet.close()
        with pytest.raises(UnavailableError, match="the server is stopping"):
            await other
        with pytest.raises(UnavailableError, match="the server is stopping"):
            await it.fleet.load(it.settings)
        assert (await it.ask(7)).version == 1
        await it.fleet.stop()
        assert not workers()
