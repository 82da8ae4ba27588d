"""Models on the same CPUs take turns; models on others do not notice."""

from __future__ import annotations

import asyncio
import itertools
import statistics
from dataclasses import replace

import pytest

from ridgeline_server.engine import turns as module
from ridgeline_server.engine.backlog import Backlog
from ridgeline_server.engine.model import ServedModel
from ridgeline_server.engine.turns import Turns
from ridgeline_server.request import BatchRecord
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import Device
from tests.server.faulty_model import answer, plan, served, submit
from tests.server.faulty_worker import SLOW_S

TWO = replace(plan(), threads=2, concurrency=2)
WHOLE = replace(plan(), threads=2, concurrency=1)
LAGGING = replace(TWO, variant="lagging")  # each of its batches takes SLOW_S


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cpus", lambda: (0, 1, 2, 3))


class Model:
    """Sends batches to its first replica that may have one; `most`: how many that takes."""

    def __init__(self, turns: Turns, waiting: int, *plans: Plan, batch_s: float = 1.0) -> None:
        self.turns, self.waiting, self.plans, self.batch_s = turns, waiting, plans, batch_s
        self.sent = 0
        self.running = [0] * len(plans)
        turns.join(self, plans)

    @property
    def has_work(self) -> bool:
        return self.waiting > 0

    def in_flight(self, index: int) -> int:
        return self.running[index]

    def dispatch_one(self) -> float | None:
        for index, each in enumerate(self.plans):
            if self.running[index] < each.concurrency + (each.concurrency + 1) // 2 and self.turns.allows(self, index):
                self.waiting -= 1
                self.sent += 1
                self.running[index] += 1
                return self.batch_s
        return None

    def end(self, index: int = 0) -> None:
        self.running[index] -= 1
        self.turns.soon()


async def settle(turns: Turns) -> None:
    turns.soon()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_lone_model_fills_its_slots_and_sends_ahead() -> None:
    turns = Turns()
    model = Model(turns, 9, TWO)
    await settle(turns)
    assert model.running == [3]


async def test_two_busy_models_run_together_what_the_cpus_are_for() -> None:
    turns = Turns()
    first, second = Model(turns, 99, TWO), Model(turns, 99, TWO)
    for _ in range(20):
        await settle(turns)
        assert (first.running, second.running) == ([1], [1])
        first.end()
        second.end()
    assert abs(first.sent - second.sent) <= 1


async def test_a_model_that_has_nothing_to_do_leaves_its_slots_to_the_other() -> None:
    turns = Turns()
    first, second = Model(turns, 99, TWO), Model(turns, 1, TWO)
    await settle(turns)
    assert (first.running, second.running) == ([1], [1])
    second.end()
    await settle(turns)
    assert first.running == [3]


async def test_a_model_that_runs_nothing_starts_at_once_and_one_alone_does() -> None:
    turns = Turns()
    heavy, light, third = Model(turns, 99, WHOLE), Model(turns, 0, TWO), Model(turns, 0, TWO)
    await settle(turns)
    assert heavy.running == [2]  # one, and one ahead: nobody else wanted the CPUs
    light.waiting = third.waiting = 5
    await settle(turns)
    assert (heavy.running, light.running, third.running) == ([2], [1], [0])
    heavy.end()
    await settle(turns)  # its next one runs by now
    assert (heavy.running, light.running, third.running) == ([1], [1], [0])
    heavy.end()
    await settle(turns)  # now two fill the CPUs, and it is the one more
    assert (heavy.running, light.running, third.running) == ([1], [1], [1])


async def spent_by(turns: Turns, models: list[Model], most: int, elsewhere: Model | None = None) -> list[float]:
    """Seconds of each model's batches, of which at most so many run at once; `elsewhere` ends one at every step."""
    ends: list[tuple[float, int]] = []
    running, now = [0] * len(models), 0.0
    for _ in range(3000):
        await settle(turns)
        for index, model in enumerate(models):
            ends += [(now + model.batch_s, index)] * (model.running[0] - running[index])
            running[index] = model.running[0]
        assert sum(running) <= most
        if elsewhere is not None:
            elsewhere.end()
        ends.sort()
        now, index = ends.pop(0)
        running[index] -= 1
        models[index].end()
    return [model.sent * model.batch_s for model in models]


async def test_cpu_time_is_shared_evenly_however_long_batches_are() -> None:
    turns = Turns()
    models = [Model(turns, 10_000, TWO, batch_s=seconds) for seconds in (0.01, 0.02, 0.08, 0.02, 0.05)]
    spent = await spent_by(turns, models, most=3)
    assert max(spent) < 1.3 * min(spent)


async def test_a_model_that_was_idle_has_saved_up_nothing() -> None:
    turns = Turns()
    first, second, idle = (Model(turns, waiting, TWO) for waiting in (1000, 1000, 0))

    async def steps(count: int) -> None:
        for _ in range(count):
            await settle(turns)
            for model in (first, second, idle):
                if model.running[0]:
                    model.end()

    await steps(200)
    idle.waiting = 1000
    before = (first.sent, second.sent)
    await steps(60)
    assert min(first.sent - before[0], second.sent - before[1]) > 0.6 * idle.sent


# Two plans, and whether their models take turns.
MEETINGS = [
    (replace(TWO, cores=(0, 1)), replace(TWO, cores=(2, 3)), False),
    (replace(TWO, cores=(0, 1)), replace(TWO, cores=(1, 2)), True),
    (replace(TWO, cores=(0, 1)), TWO, True),
    (replace(TWO, device=Device("cuda", 0)), TWO, False),
    (replace(TWO, device=Device("cuda", 0)), replace(TWO, device=Device("cuda", 0)), False),
]


@pytest.mark.parametrize(("first", "second", "do_meet"), MEETINGS)
async def test_turns_are_for_shared_cpus_alone(first: Plan, second: Plan, do_meet: bool) -> None:
    turns = Turns()
    models = Model(turns, 99, first), Model(turns, 99, second)
    await settle(turns)
    is_full = [model.running == [3] for model in models]
    assert is_full == [not do_meet] * 2


async def test_a_model_on_few_cpus_is_not_starved_by_one_on_all_of_them() -> None:
    turns = Turns()
    wide = Model(turns, 99, replace(plan(), threads=4, concurrency=4))
    await settle(turns)
    narrow = Model(turns, 99, replace(plan(), threads=1, concurrency=1, cores=(2,)))
    await settle(turns)
    for _ in range(10):
        sent = narrow.sent
        wide.end()
        await settle(turns)
        assert narrow.running == [1]
        narrow.end()
        await settle(turns)
        assert narrow.sent > sent


async def test_a_busy_model_elsewhere_changes_nothing_for_those_that_share_cpus() -> None:
    turns = Turns()
    one = replace(plan(), threads=1, concurrency=1)
    models = [Model(turns, 10_000, one, batch_s=seconds) for seconds in (0.05, 0.07, 0.06)]
    elsewhere = Model(turns, 10_000, replace(one, device=Device("cuda", 0)), batch_s=5.0)
    spent = await spent_by(turns, models, most=2, elsewhere=elsewhere)
    assert max(spent) < 1.3 * min(spent)


async def test_one_model_that_fails_does_not_keep_the_others_from_their_batches() -> None:
    turns = Turns()
    broken, whole = Model(turns, 5, TWO), Model(turns, 5, TWO)
    broken.dispatch_one = raising  # type: ignore[method-assign]
    await settle(turns)
    assert whole.sent > 0


def raising() -> float | None:
    raise RuntimeError("no batch can be made")


async def test_a_model_sends_to_the_replica_that_is_free() -> None:
    turns = Turns()
    halves = [replace(LAGGING, cores=(0, 1)), replace(LAGGING, cores=(2, 3))]
    records: list[BatchRecord] = []
    async with served(halves, records.append, turns=turns) as first, served(halves[:1], turns=turns) as second:
        await asyncio.gather(*(until_ready(model) for model in (first, second)))
        await asyncio.gather(*(answer(submit(model, [1] * 60)) for _ in range(32) for model in (first, second)))
    counts = [sum(record.replica == index for record in records) for index in range(2)]
    assert counts[1] > counts[0] > 0


async def until_ready(model: ServedModel) -> None:
    async with asyncio.timeout(20):
        while model.ready_replicas < len(model.replicas):
            await asyncio.sleep(0.01)


async def test_the_wait_for_a_model_counts_the_time_in_which_it_had_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[float] = []
    monkeypatch.setattr(Backlog, "observe", lambda self, _, busy_s: observed.append(busy_s))
    one = replace(LAGGING, threads=1, concurrency=1)
    turns = Turns()
    async with served([one], turns=turns) as a, served([one], turns=turns) as b, served([one], turns=turns) as c:
        models = (a, b, c)
        await asyncio.gather(*(until_ready(model) for model in models))
        await asyncio.gather(*(answer(submit(a, [1] * 60)) for _ in range(12)))
        alone, observed[:] = list(observed), []
        await asyncio.gather(*(answer(submit(model, [1] * 60)) for _ in range(16) for model in models))
        shared = list(observed)
    assert statistics.median(alone) == pytest.approx(SLOW_S, rel=0.3)
    assert statistics.mean(shared) > 1.2 * SLOW_S  # two of the three run at a time


async def test_models_that_leave_are_waited_for_no_more() -> None:
    turns = Turns()
    first, second = Model(turns, 99, TWO), Model(turns, 99, TWO)
    await settle(turns)
    turns.leave(second)
    turns.leave(second)
    await settle(turns)
    assert first.running == [3]
    assert not turns.allows(second, 0)


def most_at_once(records: list[BatchRecord]) -> int:
    ends = sorted([(each.started, 1) for each in records] + [(each.finished, -1) for each in records])
    return max(itertools.accumulate(change for _, change in ends))


@pytest.mark.parametrize("is_shared", [True, False])
async def test_workers_of_two_models_run_what_the_cpus_are_for(is_shared: bool) -> None:
    records: list[BatchRecord] = []
    turns = Turns() if is_shared else None
    async with (
        served([LAGGING], records.append, turns=turns) as first,
        served([LAGGING], records.append, turns=turns) as second,
    ):
        await asyncio.gather(first.was_ready.wait(), second.was_ready.wait())
        answers = [answer(submit(model, [number] * 60)) for number in range(1, 17) for model in (first, second)]
        assert await asyncio.gather(*answers) == [[pytest.approx(number)] for number in range(1, 17) for _ in range(2)]
    assert len(records) >= 6
    assert most_at_once(records) in ((2, 3) if is_shared else (4,))


@pytest.mark.parametrize("is_shared", [True, False])
async def test_the_wait_for_a_model_counts_the_slots_that_it_has(
    is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed: dict[Backlog, list[float]] = {}
    monkeypatch.setattr(Backlog, "__hash__", object.__hash__)
    monkeypatch.setattr(Backlog, "observe", lambda self, _, busy_s: observed.setdefault(self, []).append(busy_s))
    turns = Turns() if is_shared else None
    async with served([LAGGING], turns=turns) as first, served([LAGGING], turns=turns) as second:
        await asyncio.gather(first.was_ready.wait(), second.was_ready.wait())
        await asyncio.gather(*(answer(submit(model, [1] * 60)) for _ in range(24) for model in (first, second)))
    for seconds in observed.values():  # one slot of two works off half as much
        assert statistics.median(seconds) == pytest.approx(2 * SLOW_S if is_shared else SLOW_S, rel=0.3)
