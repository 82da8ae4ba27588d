"""Crash loops back off, and a worker that served for a while starts afresh."""

from __future__ import annotations

from ridgeline_server.engine.backoff import SHORT_LIFE_S, Backoff


def waits(backoff: Backoff, served_s: float | None, times: int, is_outside_kill: bool = False) -> list[float]:
    values = []
    for _ in range(times):
        backoff.died(served_s, is_outside_kill=is_outside_kill)
        values.append(backoff.wait_s)
    return values


def test_a_worker_that_never_comes_up_is_tried_ever_more_rarely() -> None:
    backoff = Backoff()
    values = waits(backoff, None, 100)
    assert values == sorted(values)
    assert values[0] > 0
    assert values[-1] == 10.0
    assert backoff.failed_starts == 100
    backoff.came_up()
    assert backoff.failed_starts == 0
    assert backoff.wait_s == 0


def test_a_worker_that_was_up_is_back_at_once_the_first_times() -> None:
    assert waits(Backoff(), 0.1, 3) == [0, 0, 0]


def test_a_worker_that_dies_again_and_again_while_up_backs_off() -> None:
    backoff = Backoff()
    values = []
    for _ in range(20):
        backoff.came_up()
        values += waits(backoff, 0.1, 1)
    assert values == sorted(values)
    assert values[-1] == 2.0


def test_a_long_life_ends_the_count() -> None:
    backoff = Backoff()
    waits(backoff, 0.1, 20)
    assert waits(backoff, SHORT_LIFE_S, 1) == [0]


def test_kills_while_loading_say_nothing_until_there_are_many() -> None:
    backoff = Backoff()
    values = waits(backoff, None, 5, is_outside_kill=True)
    assert values == sorted(values)
    assert values[0] > 0
    assert backoff.failed_starts == 0
    waits(backoff, None, 20, is_outside_kill=True)
    assert backoff.failed_starts == 20
    assert backoff.wait_s == 2.0
