from __future__ import annotations

import pytest

from ridgeline_bench.server_figures import figures_between, parse_counters


def metrics(real: float, executed: float, possible: float, tokens: float, padding: float) -> str:
    batch = 'model="a{b}",replica="0",variant="int8"'
    return f"""# HELP ridgeline_flops_total Estimated FLOPs
# TYPE ridgeline_flops_total counter
ridgeline_flops_total{{kind="real",{batch}}} {real:e}
ridgeline_flops_total{{kind="executed",{batch}}} {executed:e}
ridgeline_flops_total{{{batch},kind="possible"}} {possible:e}
ridgeline_flops_created{{kind="real",{batch}}} 1.7e9
ridgeline_tokens_total{{{batch},kind="real"}} {tokens}
ridgeline_tokens_total{{{batch},kind="padding"}} {padding}
ridgeline_batches_total{{{batch}}} {tokens / 10}
python_info{{version="3"}} 1.0
"""


def test_figures_are_of_what_happened_in_between() -> None:
    before = parse_counters(metrics(5e12, 9e12, 2e13, 1000, 500))
    after = parse_counters(metrics(8e12, 1.4e13, 3e13, 1900, 600))
    figures = figures_between(before, after)
    assert figures is not None
    assert figures["mfu"] == pytest.approx(0.3)
    assert figures["hfu"] == pytest.approx(0.5)
    assert figures["padding_waste"] == pytest.approx(0.1)
    assert (figures["real_tokens"], figures["batches"]) == (900, pytest.approx(90))


def test_without_a_measured_peak_there_is_no_mfu() -> None:
    before, after = parse_counters(metrics(1, 1, 0, 10, 0)), parse_counters(metrics(2, 2, 0, 20, 0))
    figures = figures_between(before, after)
    assert figures is not None and figures["mfu"] is None and figures["padding_waste"] == 0


def test_other_servers_say_nothing() -> None:
    assert parse_counters("te_request_count 5\n") is None
    assert figures_between(None, None) is None
