"""What a generator process is told to do, and what it hands back. Plain data: it crosses a pipe."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

TIMEOUT = -1
REFUSED = -2
RESET = -3
CLOSED = -4
MALFORMED = -5
UNREACHABLE = -6
EMPTY = -7
REFUSED_STATUS = 429

ERROR_KINDS = {
    TIMEOUT: "timeout",
    REFUSED: "connection refused",
    RESET: "connection reset",
    CLOSED: "closed before the reply ended",
    MALFORMED: "malformed reply",
    UNREACHABLE: "cannot connect",
    EMPTY: "empty reply",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One generator process's share of the load.

    requests:        whole HTTP requests, head and body, sent in turn and from the start again
    concurrency:     closed loop: connections, each sending its next request when the reply came; None = open loop
    rate:            open loop: requests per second, Poisson arrivals; None = closed loop
    max_connections: open loop: connections that may be open at once
    timeout_s:       from the (intended) sending of a request until it counts as failed
    seed:            of the arrivals
    pause_s:         closed loop: from a refusal (429) until the connection's next request
    """

    address: str
    port: int
    requests: tuple[bytes, ...]
    concurrency: int | None
    rate: float | None
    warmup_s: float
    duration_s: float
    timeout_s: float
    max_connections: int
    seed: int
    pause_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What one generator process saw. Instants are seconds of CLOCK_MONOTONIC.

    sent:     [replies] when each request was sent; in the open loop when it was meant to be, if that was earlier
    written:  [replies] when it was really written: later than `sent` where it waited for a connection
    done:     [replies] when its reply was complete, or it had failed
    codes:    [replies] HTTP status, or a negative key of ERROR_KINDS
    tokens:   [replies] tokens that the server said it worked on, 0 = not said
    timings:  sum of seconds per phase of `Server-Timing`, over measured successes; `timed` of them had it
    measured_from, ended: the window in which requests count
    cpu_s, replies_in_window: of this process within the window
    lag_sum_s, lag_max_s: how much later than intended requests were written, over `lag_count`
    waited_for_connection: arrivals that had to wait because max_connections were open
    refused_without_retry_after: replies 429 that do not say when to come back
    unfinished: requests without reply when the run was cut short
    """

    sent: array[float] = field(default_factory=lambda: array("d"))
    written: array[float] = field(default_factory=lambda: array("d"))
    done: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("h"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    timings: dict[str, float] = field(default_factory=dict)
    timed: int = 0
    measured_from: float = 0.0
    ended: float = 0.0
    cpu_s: float = 0.0
    replies_in_window: int = 0
    lag_sum_s: float = 0.0
    lag_max_s: float = 0.0
    lag_count: int = 0
    connections_opened: int = 0
    waited_for_connection: int = 0
    refused_without_retry_after: int = 0
    unfinished: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What a generator process says of itself while it runs, all counts since the start."""

    replies: int
    errors: int
    in_flight: int
