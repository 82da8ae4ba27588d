from __future__ import annotations

import socket
from collections import Counter

import pytest

from ridgeline_bench import fleet
from ridgeline_bench.plan import REFUSED, Plan


def plan(**changes: object) -> Plan:
    fields: dict[str, object] = {
        "address": "127.0.0.1",
        "port": 1,
        "requests": (b"a", b"b", b"c", b"d"),
        "concurrency": 5,
        "rate": None,
        "warmup_s": 0.0,
        "duration_s": 0.3,
        "timeout_s": 1.0,
        "max_connections": 10,
        "seed": 3,
    }
    return Plan(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_closed_loop_is_split_without_loss() -> None:
    shares = fleet.split(plan(), 2)
    assert [share.concurrency for share in shares] == [3, 2]
    assert [share.requests[0] for share in shares] == [b"a", b"c"]


def test_an_open_loop_is_split_into_independent_arrivals() -> None:
    shares = fleet.split(plan(concurrency=None, rate=30.0), 3)
    assert [share.rate for share in shares] == [10.0] * 3
    assert len({share.seed for share in shares}) == 3


@pytest.mark.parametrize("load", [{}, {"concurrency": None, "rate": 100.0}], ids=["closed", "open"])
def test_a_server_that_is_gone_is_counted_not_fatal(load: dict[str, object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    run = fleet.run([plan(port=port, **load)], lambda tick: None, lambda: None)
    (outcome,) = run.outcomes
    assert set(Counter(outcome.codes)) == {REFUSED}
    # Failing at once is no reason to try as fast as the processor can.
    assert 5 <= len(outcome.codes) < 150
