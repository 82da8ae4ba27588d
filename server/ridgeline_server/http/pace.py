"""Refusals at a bounded rate: a client that is refused and asks again at once must not keep the server busy with it.

A refusal costs the event loop, which all models share, some 65 µs. Up to a rate they go out at once, so that a balancer
can turn to another server; past it each waits until it is its turn, for a second at most. That is no longer than any
`Retry-After` asks for, so clients that heed it lose nothing. A client has one request at a time on a connection: those
that ask again at once then do so once a second.
"""

from __future__ import annotations

import asyncio
import time

from ridgeline_server.http.connection import MOST_DISCARDED_BYTES
from ridgeline_server.http.exchange import Exchange

PER_S = 1000.0
BURST = 100
LONGEST_S = 1.0
MOST_HELD = 4096
# Of a body that nobody reads a connection holds so much at most; larger ones are read and thrown away meanwhile.
_SMALL_BODY_BYTES = 16 * 1024
# Refusals that clients can ask for as fast as they are given: by whom nobody knows, and by whoever may come in.
_OF_STRANGERS = (401, 403, 421)
_OF_CALLERS = (429, 503)
# Large bodies that may come unasked, and that nobody reads.
_MOST_UNREAD = 256


class Pace:
    """Says when a refusal may go out: the generic cell rate algorithm (ITU-T I.371), with a bound on the wait."""

    def __init__(self, per_s: float | None = None, most_held: int = MOST_HELD) -> None:
        """per_s: None = PER_S; most_held: refusals that wait at once, others go out immediately"""
        self._interval_s = 1.0 / (PER_S if per_s is None else per_s)
        self._most_held = most_held
        self._next = 0.0
        self._held = self._unread = 0

    def delay_s(self, now: float) -> float:
        """Seconds that a refusal of this instant waits."""
        planned = max(self._next, now - BURST * self._interval_s) + self._interval_s
        self._next = min(planned, now + LONGEST_S)
        return max(self._next - now, 0.0)

    async def wait(self, exchange: Exchange | None = None) -> None:
        """Wait until a refusal may go out. exchange: the refused one; large bodies of it are thrown away meanwhile"""
        delay_s = self.delay_s(time.monotonic())
        if not delay_s or self._held >= self._most_held:
            return
        is_large = exchange is not None and _has_large_body(exchange)
        is_unread = is_large and exchange is not None and b"expect" in exchange.given  # asked for, it would come
        if is_unread and self._unread >= _MOST_UNREAD:
            return
        self._held += 1
        self._unread += is_unread
        try:
            if exchange is None or not is_large or is_unread:
                await asyncio.sleep(delay_s)
            else:
                await _discard(exchange, delay_s)
        finally:
            self._held -= 1
            self._unread -= is_unread


def make_paces(most_held: int = MOST_HELD) -> dict[int, Pace]:
    """The pace of each status that has one: strangers do not delay what callers are told."""
    return {
        **dict.fromkeys(_OF_STRANGERS, Pace(most_held=most_held)),
        **dict.fromkeys(_OF_CALLERS, Pace(most_held=most_held)),
    }


def _has_large_body(exchange: Exchange) -> bool:
    given = exchange.given
    length = given.get(b"content-length", b"")
    if not length:
        return b"transfer-encoding" in given
    return not length.isdigit() or len(length) > 9 or int(length) > _SMALL_BODY_BYTES


async def _discard(exchange: Exchange, seconds: float) -> None:
    """Throw away what comes of the body within so many seconds; end early when the client leaves."""
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while size <= MOST_DISCARDED_BYTES:
                message = await exchange.receive()
                if message["type"] == "http.disconnect":
                    return
                size += len(message.get("body", b""))
            await asyncio.sleep(seconds)  # what comes now waits in the connection, which is not read
    except TimeoutError:
        return
