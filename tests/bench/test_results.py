from __future__ import annotations

from array import array

import numpy as np
import pytest

from ridgeline_bench import results
from ridgeline_bench.plan import TIMEOUT, Outcome


def outcome(
    requests: list[tuple[float, float, int, int]], opened: float = 100.0, seconds: float = 2.0, late: float = 0.0
) -> Outcome:
    """requests: (sent, done, code, tokens), instants relative to the window; each was written `late` seconds late."""
    return Outcome(
        sent=array("d", [opened + each[0] for each in requests]),
        written=array("d", [opened + each[0] + late for each in requests]),
        done=array("d", [opened + each[1] for each in requests]),
        codes=array("h", [each[2] for each in requests]),
        tokens=array("i", [each[3] for each in requests]),
        measured_from=opened,
        ended=opened + seconds,
    )


def test_only_what_was_sent_in_the_window_is_measured() -> None:
    seen = outcome(
        [
            (-0.5, 0.1, 200, 10),  # sent in the warm-up: its reply counts for throughput, its latency does not
            (0.1, 0.3, 200, 10),
            (1.9, 2.5, 200, 10),  # came after the end: the other way round
            (0.2, 0.4, 429, 0),
            (0.3, 1.3, TIMEOUT, 0),
            (2.1, 2.2, 200, 10),
        ]
    )
    figures = results.figures(results.merge([seen]), [seen], texts_per_request=4)
    assert (figures["requests"], figures["succeeded"], figures["refused"], figures["failed"]) == (4, 2, 1, 1)
    assert figures["errors"] == {"timeout": 1}
    assert figures["throughput_requests_per_s"] == 1.0
    assert figures["throughput_texts_per_s"] == 4.0
    assert (figures["tokens"], figures["tokens_per_s"]) == (20, 10.0)
    assert figures["latency_s"]["min"] == pytest.approx(0.2)
    assert figures["latency_s"]["max"] == pytest.approx(0.6)


def test_service_time_leaves_out_what_the_generator_waited() -> None:
    seen = outcome([(0.1, 0.5, 200, 0), (0.2, 0.3, 429, 0)], late=0.05)
    figures = results.figures(results.merge([seen]), [seen], texts_per_request=1)
    assert figures["latency_s"]["max"] == pytest.approx(0.4)
    assert figures["service_s"]["max"] == pytest.approx(0.35)
    assert figures["refused_latency_s"]["max"] == pytest.approx(0.1)


def test_percentiles_and_histogram_of_known_latencies() -> None:
    latencies = np.arange(1, 1001) / 1000
    figures = results.latency_figures(latencies)
    assert figures is not None
    assert figures["p50"] == pytest.approx(0.5005)
    assert figures["p99"] == pytest.approx(0.99001)
    assert (figures["min"], figures["max"]) == (0.001, 1.0)
    histogram = results.histogram(latencies)
    assert histogram is not None
    assert sum(histogram["counts"]) == 1000
    assert len(histogram["edges_s"]) == len(histogram["counts"]) + 1
    assert histogram["edges_s"][0] <= 0.001 and histogram["edges_s"][-1] >= 1.0


def test_the_series_has_every_second_and_a_part_of_the_last() -> None:
    seen = outcome([(0.1, 0.2, 200, 0), (0.1, 1.2, 200, 0), (1.0, 1.4, 500, 0)], seconds=2.5)
    series = results.per_second(results.merge([seen]))
    assert [each["replies"] for each in series] == [1, 1, 0]
    assert [each["errors"] for each in series] == [0, 1, 0]
    assert [each["seconds"] for each in series] == [1, 1, 0.5]
    assert series[1]["p50_s"] == pytest.approx(1.1)
    assert series[2]["p50_s"] is None


def test_a_run_without_success_has_no_latency() -> None:
    seen = outcome([(0.1, 0.2, 503, 0)])
    figures = results.figures(results.merge([seen]), [seen], 1)
    assert figures["latency_s"] is None and figures["latency_histogram"] is None and figures["tokens"] is None


def test_processes_are_merged() -> None:
    first, second = outcome([(0.1, 0.2, 200, 0)]), outcome([(0.3, 0.5, 200, 0)])
    first.timings, first.timed = {"queue": 0.3}, 1
    second.timings, second.timed = {"queue": 0.1, "compute": 0.4}, 1
    figures = results.figures(results.merge([first, second]), [first, second], 1)
    assert figures["requests"] == 2
    assert figures["server_timing_s"] == pytest.approx({"queue": 0.2, "compute": 0.2})
