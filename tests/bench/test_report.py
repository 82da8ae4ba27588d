from __future__ import annotations

from typing import Any

import pytest

from ridgeline_bench.report import milliseconds, warnings


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.000414, "0.41 ms"), (0.0123, "12.3 ms"), (0.1234, "123 ms"), (1.234, "1,234 ms")]
)
def test_milliseconds_have_three_digits(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown


def result(**generator: Any) -> dict[str, Any]:
    usual = {"waited_for_connection": 0, "send_lag_s": None, "cpu_share_of_one_core": 0.1, "processes": 1}
    return {"generator": {**usual, **generator}, "inputs": {"max_connections": 7}, "interrupted": False}


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ({"waited_for_connection": 12}, "12 requests had to wait for a connection since 7 were open"),
        ({"send_lag_s": {"mean": 0.02, "max": 1.0}}, "left 20.0 ms later than meant"),
        ({"cpu_share_of_one_core": 0.97}, "may be the bottleneck"),
    ],
)
def test_says_what_makes_figures_doubtful(generator: dict[str, Any], says: str) -> None:
    (sentence,) = warnings(result(**generator))
    assert says in sentence


def test_a_good_run_needs_no_warning() -> None:
    assert list(warnings(result(send_lag_s={"mean": 0.0002, "max": 0.002}))) == []
