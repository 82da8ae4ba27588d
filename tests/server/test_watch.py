"""When a worker is hung, by table and by simulation: no clock, only ticks and beats."""

from __future__ import annotations

import random

import pytest

from ridgeline_server.engine.watch import (
    BEAT_S,
    LOST_AFTER_LOADING_TICKS,
    LOST_AFTER_STARVED_TICKS,
    LOST_AFTER_TICKS,
    SILENT_AFTER_TICKS,
    TICK_S,
    Health,
    Watch,
    is_lost,
)

NOTHING: dict[int, float] = {}


def test_a_worker_that_beats_is_alive() -> None:
    watch = Watch()
    assert {watch.tick(beat, [0], NOTHING) for beat in range(1, 1000)} == {Health.ALIVE}


def test_silence_is_noticed_within_two_seconds_and_ends_with_a_beat() -> None:
    watch = Watch()
    watch.tick(1, [0], NOTHING)
    healths = [watch.tick(1, [0], NOTHING) for _ in range(LOST_AFTER_TICKS)]
    assert healths.index(Health.SILENT) + 1 == SILENT_AFTER_TICKS <= 2 / TICK_S
    assert watch.silent_ticks == LOST_AFTER_TICKS
    assert watch.tick(2, [0], NOTHING) is Health.ALIVE
    assert watch.silent_ticks == 0


def test_a_connection_that_ended_is_silence_whatever_the_page_says() -> None:
    watch = Watch()
    assert [watch.tick(None, [0], NOTHING) for _ in range(SILENT_AFTER_TICKS)][-1] is Health.SILENT


def test_a_batch_is_stuck_after_its_own_bound() -> None:
    watch = Watch()
    bounds_s = {7: 3.0, 8: 60.0}
    healths = [watch.tick(beat, [7, 8], bounds_s) for beat in range(1, 20)]
    assert healths.index(Health.STUCK) == 3 / TICK_S


def test_a_batch_that_is_never_begun_is_stuck_too() -> None:
    watch = Watch()
    assert Health.STUCK in [watch.tick(beat, [0], {7: 3.0, 8: 3.0}) for beat in range(1, 20)]


def test_batches_that_wait_behind_others_are_not_stuck() -> None:
    watch = Watch()
    for beat in range(1, 200):
        batch = 1 + beat // 10  # each takes 2.5 s of its 3, and the next one has waited as long
        assert watch.tick(beat, [batch], {batch: 3.0, batch + 1: 3.0}) is Health.ALIVE


def test_what_a_slot_ran_last_does_not_count_once_it_is_done() -> None:
    watch = Watch()
    assert {watch.tick(beat, [5], NOTHING) for beat in range(1, 100)} == {Health.ALIVE}


def test_time_in_which_the_worker_gave_no_sign_is_not_the_batch_s() -> None:
    watch = Watch()
    for beat in range(1, 9):
        watch.tick(beat, [7], {7: 3.0})
        for _ in range(LOST_AFTER_TICKS - 1):
            assert watch.tick(beat, [7], {7: 3.0}) is not Health.STUCK
    assert watch.tick(100, [7], {7: 3.0}) is Health.ALIVE


@pytest.mark.parametrize(
    ("ticks", "state", "lost"),
    [
        (LOST_AFTER_TICKS - 1, "", False),
        (LOST_AFTER_TICKS, "", True),
        (LOST_AFTER_TICKS, "stopped", True),
        (LOST_AFTER_TICKS, "stopped loading", True),
        (LOST_AFTER_TICKS, "starved", False),
        (LOST_AFTER_STARVED_TICKS, "starved", True),
        (LOST_AFTER_STARVED_TICKS, "starved loading", False),
        (LOST_AFTER_LOADING_TICKS - 1, "loading", False),
        (LOST_AFTER_LOADING_TICKS, "loading", True),
    ],
)
def test_who_is_lost(ticks: int, state: str, lost: bool) -> None:
    flags = {f"is_{name}": name in state for name in ("loading", "starved", "stopped")}
    assert is_lost(ticks, **flags) is lost


def simulate(watch_pauses: list[tuple[float, float]], worker_pauses: list[tuple[float, float]]) -> Watch:
    """60 s of a worker that runs a batch of 100 ms after another; watch and worker stand still in their pauses."""

    def resume(instant: float, pauses: list[tuple[float, float]]) -> float:
        return next((end for begin, end in pauses if begin <= instant < end), instant)

    watch, tick, beat, beats, most_silent = Watch(), TICK_S, 0.0, 0, 0
    while tick < 60:
        tick = resume(tick, watch_pauses)
        while (beat := resume(beat, worker_pauses)) <= tick:
            beats, beat = beats + 1, beat + BEAT_S
        batch = 1 + int(tick / 0.1)
        assert watch.tick(beats, [batch], {batch: 3.0}) is not Health.STUCK
        most_silent = max(most_silent, watch.silent_ticks)
        tick += TICK_S
    watch.silent_ticks = most_silent
    return watch


def test_a_machine_that_was_suspended_loses_no_worker() -> None:
    pause = [(10.0, 50.0)]
    assert simulate(pause, pause).silent_ticks <= 1
    assert simulate(pause, [(10.0, 50.5)]).silent_ticks < SILENT_AFTER_TICKS


def test_a_server_that_was_held_by_a_debugger_loses_no_worker() -> None:
    assert simulate([(10.0, 50.0)], []).silent_ticks == 0


def test_starved_by_other_programs_nobody_is_lost() -> None:
    for seed in range(20):
        rng = random.Random(seed)

        def pauses(rng: random.Random = rng) -> list[tuple[float, float]]:
            starts = [rng.uniform(0, 60) for _ in range(30)]
            return [(start, start + rng.uniform(0, 0.8)) for start in sorted(starts)]

        assert simulate(pauses(), pauses()).silent_ticks < LOST_AFTER_TICKS
