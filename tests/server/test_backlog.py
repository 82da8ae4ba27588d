"""When the queue is full, and for how long."""

import pytest

from ridgeline_server.engine.backlog import LEAST_QUEUE_REQUESTS, Backlog

SLOTS = 2


def backlog(tokens_per_s: float = 0.0, max_queue_tokens: int = 10_000_000) -> Backlog:
    made = Backlog(max_queue_tokens, max_queue_s=2.0)
    if tokens_per_s:
        made.observe(tokens=1000, busy_s=2 * 1000 / tokens_per_s)
    return made


def test_an_empty_queue_is_never_full() -> None:
    assert backlog().retry_after_s(1000, 0, 0, SLOTS) is None
    assert backlog(1000.0).retry_after_s(1000, 0, 0, SLOTS, left_s=0.0) is None


def test_the_token_bound_holds_before_any_rate_is_known() -> None:
    full = backlog(max_queue_tokens=100)
    assert full.retry_after_s(1000, 99, 99, SLOTS) is None
    assert full.retry_after_s(1000, 100, 0, SLOTS) == 1.0


def test_more_seconds_of_interactive_work_than_allowed_are_too_much() -> None:
    fast = backlog(100_000.0)
    assert fast.tokens_per_s == pytest.approx(50_000)  # of one of two slots
    assert fast.retry_after_s(1000, 199_000, 199_000, SLOTS) is None
    assert fast.retry_after_s(1000, 201_000, 201_000, SLOTS) == pytest.approx(201_000 / 2 / 100_000)
    assert fast.retry_after_s(1000, 900_000, 1000, SLOTS) is None  # work of batch priority does not stand in the way


def test_a_few_requests_may_wait_whatever_they_take() -> None:
    slow = backlog(100.0)
    assert slow.retry_after_s(LEAST_QUEUE_REQUESTS, 9_000, 9_000, SLOTS) is None
    assert slow.retry_after_s(LEAST_QUEUE_REQUESTS + 1, 9_000, 9_000, SLOTS) == 45.0


def test_who_would_miss_its_deadline_in_the_queue_is_told_at_once() -> None:
    fast = backlog(100_000.0)
    assert fast.retry_after_s(1000, 50_000, 50_000, SLOTS, left_s=0.6) is None
    assert fast.retry_after_s(1000, 50_000, 50_000, SLOTS, left_s=0.4) == 1.0


def test_the_rate_follows_what_is_measured() -> None:
    made = backlog()
    for _ in range(200):
        made.observe(tokens=50, busy_s=0.5)
    assert made.tokens_per_s == pytest.approx(100, rel=0.01)


def test_with_fewer_slots_the_same_work_takes_longer() -> None:
    fast = backlog(100_000.0)
    assert fast.retry_after_s(1000, 150_000, 150_000, SLOTS) is None
    assert fast.retry_after_s(1000, 150_000, 150_000, 1) == 1.5


def test_a_deadline_that_has_passed_is_no_full_queue() -> None:
    assert backlog(1000.0).retry_after_s(0, 0, 0, SLOTS, left_s=-1.0) is None
