"""What a key has left: a token bucket for requests, one for the models' tokens, and a quota of tokens a day.

Requests are counted when they come in. Tokens are charged when an answer is there, since nobody knows them before: a
key may go into debt by the requests that it has in flight, and is refused until the debt is paid.
"""

from __future__ import annotations

import time

from ridgeline_server.errors import OverloadedError
from ridgeline_server.security.keys import Limits

Headers = list[tuple[bytes, bytes]]
_DAY_S = 86_400


class Bucket:
    """Holds what a minute allows at most, and is filled steadily. Instants are seconds of CLOCK_MONOTONIC."""

    __slots__ = ("_at", "_level", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until there is one again, 0 when there is."""
        missing = 1.0 - self._fill(now)
        return max(missing, 0.0) * 60 / self.per_minute

    def take(self, count: int, now: float) -> None:
        """Take so many, below nothing where there are fewer."""
        self._fill(now)
        self._level -= count

    def headers(self, what: bytes, now: float) -> Headers:
        """OpenAI's names; the reset is when the bucket is full again."""
        level = self._fill(now)
        return _headers(what, self.per_minute, int(level), (self.per_minute - level) * 60 / self.per_minute)

    def _fill(self, now: float) -> float:
        self._level = min(self._level + (now - self._at) * self.per_minute / 60, self.per_minute)
        self._at = now
        return self._level


class DailyQuota:
    """Tokens of a day of UTC. Instants are Unix seconds."""

    __slots__ = ("_day", "_used", "per_day")

    def __init__(self, per_day: int) -> None:
        self.per_day = per_day
        self._day = 0
        self._used = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next day when this one's tokens are used up, else 0."""
        return _DAY_S - now % _DAY_S if self.used(now) >= self.per_day else 0.0

    def take(self, count: int, now: float) -> None:
        """Count so many tokens."""
        self._used = self.used(now) + count

    def used(self, now: float) -> int:
        """Tokens of the day."""
        day = int(now // _DAY_S)
        if day != self._day:
            self._day, self._used = day, 0
        return self._used

    def headers(self, now: float) -> Headers:
        """As OpenAI's, named for the day."""
        return _headers(b"tokens-day", self.per_day, self.per_day - self.used(now), _DAY_S - now % _DAY_S)


def _headers(what: bytes, limit: int, remaining: int, reset_s: float) -> Headers:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % max(remaining, 0)),
        (b"x-ratelimit-reset-" + what, b"%.3fs" % reset_s),
    ]


class Allowance:
    """What is left of a key's limits, in memory: a restart fills it up."""

    __slots__ = ("_day", "_requests", "_tokens", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        now = time.monotonic()
        rate, tokens, day = limits.requests_per_minute, limits.tokens_per_minute, limits.tokens_per_day
        self._requests = None if rate is None else Bucket(rate, now)
        self._tokens = None if tokens is None else Bucket(tokens, now)
        self._day = None if day is None else DailyQuota(day)

    def enter(self, name: str) -> None:
        """Count a request of the key. Raises: OverloadedError when one of its limits is reached."""
        now = time.monotonic()
        if self._day is not None and (wait_s := self._day.wait_s(time.time())):
            raise _over(name, self._day.per_day, "tokens a day", wait_s)
        if self._tokens is not None and (wait_s := self._tokens.wait_s(now)):
            raise _over(name, self._tokens.per_minute, "tokens a minute", wait_s)
        if self._requests is not None:
            if wait_s := self._requests.wait_s(now):
                raise _over(name, self._requests.per_minute, "requests a minute", wait_s)
            self._requests.take(1, now)

    def give_back(self) -> None:
        """The request that was counted last was refused."""
        if self._requests is not None:
            self._requests.take(-1, time.monotonic())

    def charge(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        if self._tokens is not None:
            self._tokens.take(tokens, time.monotonic())
        if self._day is not None:
            self._day.take(tokens, time.time())

    def headers(self) -> Headers:
        """What is left, for a reply; nothing of what is not limited."""
        now = time.monotonic()
        headers: Headers = []
        if self._requests is not None:
            headers += self._requests.headers(b"requests", now)
        if self._tokens is not None:
            headers += self._tokens.headers(b"tokens", now)
        if self._day is not None:
            headers += self._day.headers(time.time())
        return headers


def _over(name: str, limit: int, what: str, wait_s: float) -> OverloadedError:
    return OverloadedError(
        f"the key '{name}' has used its {limit} {what}; try again after the seconds in Retry-After, or ask for more",
        wait_s,
    )
