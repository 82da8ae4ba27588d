"""What keys have left, by clocks that the tests turn."""

from __future__ import annotations

import pytest

from ridgeline_server.errors import OverloadedError
from ridgeline_server.security import allowance
from ridgeline_server.security.allowance import Allowance
from ridgeline_server.security.keys import Limits


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return 1000.0 + self.now

    def time(self) -> float:
        return 86_400.0 * 20_000 + 3600 + self.now  # one o'clock of a day


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(allowance, "time", clock)
    return clock


def wait_s(left: Allowance) -> float:
    """Seconds until the key may ask again; 0 = it did now."""
    try:
        left.enter("search")
    except OverloadedError as error:
        assert "the key 'search' has used its" in str(error)
        return error.retry_after_s
    return 0.0


def test_requests_come_back_steadily(clock: Clock) -> None:
    left = Allowance(Limits(requests_per_minute=30))
    assert [wait_s(left) for _ in range(31)] == [0.0] * 30 + [pytest.approx(2.0)]
    clock.now += 1.5
    assert wait_s(left) == pytest.approx(0.5)
    clock.now += 0.5
    assert wait_s(left) == 0.0 and wait_s(left) > 0
    clock.now += 3600
    assert [wait_s(left) > 0 for _ in range(31)] == [False] * 30 + [True]


def test_tokens_are_charged_after_the_answer_and_debts_are_paid_by_waiting(clock: Clock) -> None:
    left = Allowance(Limits(tokens_per_minute=600))
    for _ in range(3):
        assert wait_s(left) == 0.0  # in flight together: nobody knows yet what they take
    for _ in range(3):
        left.charge(400)
    assert wait_s(left) == pytest.approx((600 + 1) / 10)
    clock.now += 60.2
    assert wait_s(left) == 0.0


def test_a_days_tokens_end_with_the_day(clock: Clock) -> None:
    left = Allowance(Limits(tokens_per_day=1000))
    left.charge(999)
    assert wait_s(left) == 0.0
    left.charge(5)
    assert wait_s(left) == pytest.approx(23 * 3600)
    clock.now += 23 * 3600 - 1
    assert wait_s(left) == pytest.approx(1)
    clock.now += 1
    assert wait_s(left) == 0.0


def test_a_refused_request_takes_nothing(clock: Clock) -> None:
    left = Allowance(Limits(requests_per_minute=2, tokens_per_minute=60))
    left.charge(60)
    assert [wait_s(left) > 0 for _ in range(5)] == [True] * 5
    clock.now += 1
    assert [wait_s(left) for _ in range(2)] == [0.0, 0.0]


def test_headers_have_openais_names(clock: Clock) -> None:
    left = Allowance(Limits(requests_per_minute=60, tokens_per_minute=600, tokens_per_day=10_000))
    left.enter("search")
    left.charge(100)
    assert dict(left.headers()) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1.000s",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"500",
        b"x-ratelimit-reset-tokens": b"10.000s",
        b"x-ratelimit-limit-tokens-day": b"10000",
        b"x-ratelimit-remaining-tokens-day": b"9900",
        b"x-ratelimit-reset-tokens-day": b"82800.000s",
    }
    left.charge(1_000_000)
    assert dict(left.headers())[b"x-ratelimit-remaining-tokens"] == b"0"
    assert Allowance(Limits()).headers() == []
