"""When the queue is full, and for how long."""

import pytest

from ridgeline_server.engine.backlog import Backlog


def test_an_empty_queue_is_never_full() -> None:
    assert Backlog(100, 10.0).retry_after_s(0) is None


def test_the_token_bound_holds_before_any_rate_is_known() -> None:
    backlog = Backlog(100, 10.0)
    assert backlog.retry_after_s(99) is None
    assert backlog.retry_after_s(100) == 1.0


def test_more_than_can_be_served_before_the_deadline_is_too_much() -> None:
    backlog = Backlog(1_000_000, 10.0)
    backlog.observe(tokens=100, busy_s=1.0, concurrency=2)
    assert backlog.tokens_per_s == 200
    assert backlog.retry_after_s(2000) is None
    assert backlog.retry_after_s(2001) == pytest.approx(2001 / 2 / 200)


def test_the_rate_follows_what_is_measured() -> None:
    backlog = Backlog(100, 10.0)
    for _ in range(200):
        backlog.observe(tokens=50, busy_s=0.5, concurrency=1)
    assert backlog.tokens_per_s == pytest.approx(100, rel=0.01)


def test_the_wait_is_bounded() -> None:
    backlog = Backlog(100, 1e9)
    backlog.observe(tokens=1, busy_s=10.0, concurrency=1)
    assert backlog.retry_after_s(100_000) == 60.0
