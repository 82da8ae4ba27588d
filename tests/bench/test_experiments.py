"""What experiments compute and draw, from made-up measurements; the experiments themselves are run by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import (
    chaos,
    dashboard_cost,
    host_cost,
    latency,
    overload,
    roofline,
    served_vs_bound,
    soak,
    startup,
)
from experiments.lab import checked_load, load, random_models, roofline_runs
from experiments.lab.probe import Seen, seconds_until_normal
from experiments.lab.verdicts import at_least, at_most, median_of, ratio_of_rounds, report

from ridgeline_server.runtimes import calibration
from ridgeline_server.runtimes.encoders import ENCODERS


def latencies(seconds: float) -> dict[str, float]:
    names = ("p50", "p90", "p95", "p99", "p999", "max")
    return {name: seconds * (1 + index) for index, name in enumerate(names)}


SERVED = {
    "bound_texts_per_s": 800.0,
    "loads": {
        shape.name: {
            "served_over_bound": share,
            "replayed_over_bound": 0.9,
            "host_efficiency": share / 0.9,
            "cpu_us_per_text": {"server": 250.0, "workers": 2000.0, "generator": 50.0},
        }
        for shape, share in zip(
            (load.Shape(32, 1), load.Shape(256, 1), load.Shape(8, 32)), (0.71, 0.79, 0.9), strict=True
        )
    },
}
OVERLOAD: dict[str, Any] = {
    "factor": 5.0,
    "capacity": 600.0,
    "rate": 3000.0,
    "goodput": 550.0,
    "deadline_s": 2.0,
    "duration_s": 4.0,
    "calm_p50_s": 0.05,
    "normal_after_s": 0.5,
    "memory_growth": 1.0,
    "memory": [{"at_s": at, "bytes": 3 << 20} for at in range(5)],
    "probe": [{"at": 0.5, "status": 200, "seconds": 1.0}, {"at": 1.0, "status": 429, "seconds": 0.001}],
    "overload": {
        "results": {
            "failed": 0,
            "unfinished": 0,
            "refused_without_retry_after": 0,
            "service_s": {"max": 1.9},
            "per_second": [{"second": 0, "seconds": 1.0, "replies": 550, "refused": 2400, "errors": 0}],
        }
    },
}
CHAOS: dict[str, Any] = {
    "duration_s": 3.0,
    "statuses": {"200": 90, "503": 1},
    "misplaced": 0,
    "largest_difference": 2e-3,
    "calm_largest_difference": 2e-3,
    "tolerance": 4e-3,
    "per_second": {"0": 30, "1": 40, "2": 20},
    "slowest_per_second": {"0": 0.1, "1": 2.0},
    "calm_slowest_s": 0.1,
    "blows": [{"at": 0.5, "pid": 1, "stopped_s": 0.0}, {"at": 1.5, "pid": 2, "stopped_s": 0.4}],
    "before": {"processes": 3, "open_files": 20, "server_bytes": 100},
    "after": {"processes": 3, "open_files": 20, "server_bytes": 101},
}
SOAK = {
    "requests": 1000,
    "failed": 0,
    "settled": 100,
    "growth": {"server": 0.01, "worker 0": None, "all": 0.01},
    "samples": [
        {"requests": n, "bytes": {"server": 1 << 20, "worker 0": 2 << 20, "all": 3 << 20}} for n in (100, 1000)
    ],
}
STARTUP = {
    "ready_s": [1.5, 1.7],
    "weights_bytes": 20 << 20,
    "ready_bytes": {"server": 70 << 20, "worker 0": 200 << 20, "total": 270 << 20},
    "loaded_bytes": {"server": 80 << 20, "worker 0": 220 << 20, "total": 300 << 20},
}
LATENCY = {
    "alone": {"p50_s": 0.004, "bare_s": 0.0032, "tokenize_s": 0.0001, "run_s": 0.0031, "host_s": 0.0008},
    "open_loop": {
        "capacity": 600.0,
        "rate": 420.0,
        "p50_s": 0.01,
        "p99_s": 0.05,
        "ideal_p99_s": 0.045,
        "latency_s": latencies(0.01),
    },
}
DASHBOARD = {
    "idle": {0: 0.002, 5: 0.004, 25: 0.012},
    "loaded": {0: 0.05, 5: 0.075, 25: 0.175},
    "rate": 50.0,
    "record_us": {"request": 0.6, "batch": 1.4},
    "poll_bytes": 6000,
    "failed": 0,
}
POINTS = [
    {
        "model": f"model {model}",
        "runtime": "openvino",
        "precision": precision,
        "concurrency": 1 + model % 2,
        "batch": 4,
        "seq": 32,
        "measured_s": 0.01 * (1 + model),
        "config_s": 0.01 * (1 + model) * (1.0 + 0.04 * model),
        "graph_s": 0.01 * (1 + model) * (1.0 - 0.05 * model),
        "bound": "compute",
    }
    for precision in ("fp32", "int8")
    for model in range(6)
]
ROOFLINE = {"calibrations": [], "points": POINTS, "errors": roofline.summary(POINTS)}
HOST = {"steps_us": {"tokenize": 70.0, "schedule": 7.0}, "total_us": 200.0}


@pytest.mark.parametrize(
    ("experiment", "figures", "missed"),
    [
        (
            served_vs_bound,
            SERVED,
            {"served / bound, 1 text, 256 connections", "served / replayed, 1 text, 32 connections"},
        ),
        (overload, OVERLOAD, set()),
        (chaos, CHAOS, set()),
        (soak, SOAK, {"growth of worker 0"}),
        (startup, STARTUP, set()),
        (latency, LATENCY, set()),
        (host_cost, HOST, set()),
        (dashboard_cost, DASHBOARD, {"5 dashboards under load, of a core"}),
        (roofline, ROOFLINE, set()),
    ],
    ids=[
        "served_vs_bound",
        "overload",
        "chaos",
        "soak",
        "startup",
        "latency",
        "host_cost",
        "dashboard_cost",
        "roofline",
    ],
)
def test_figures_get_verdicts_and_a_plot(experiment: Any, figures: Any, missed: set[str], tmp_path: Path) -> None:
    judged = experiment.verdicts(figures)
    assert {verdict.name for verdict in judged if not verdict.is_met} >= missed
    if not missed:
        assert all(verdict.is_met for verdict in judged), judged
    code = report(tmp_path, "it", {"bundle": "b"}, figures, judged, lambda: experiment.draw(figures))
    assert code == bool(missed)
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((tmp_path / "it.json").read_text())
    assert told["figures"].keys() == figures.keys()
    assert [verdict["is_met"] for verdict in told["verdicts"]] == [verdict.is_met for verdict in judged]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"statuses": {"200": 9, "0": 1}}, "requests without an answer"),
        ({"statuses": {"200": 9, "500": 1}}, "requests blamed for a worker's end (500)"),
        ({"misplaced": 1}, "answers of another text, or of a wrong count"),
        ({"largest_difference": 5e-3}, "largest difference to the reference"),
        ({"after": {"processes": 4, "open_files": 20, "server_bytes": 100}}, "processes more than before"),
        ({"after": {"processes": 3, "open_files": 21, "server_bytes": 100}}, "open files more than before"),
    ],
)
def test_each_harm_of_the_chaos_is_seen(changes: dict[str, Any], missed: str) -> None:
    assert [verdict.name for verdict in chaos.verdicts({**CHAOS, **changes}) if not verdict.is_met] == [missed]


def test_a_late_answer_in_overload_is_seen() -> None:
    results = {**OVERLOAD["overload"]["results"], "service_s": {"max": 2.5}}
    (missed,) = (each for each in overload.verdicts({**OVERLOAD, "overload": {"results": results}}) if not each.is_met)
    assert "past its deadline" in missed.name and missed.value == pytest.approx(0.5)


def test_what_could_not_be_measured_misses_its_target() -> None:
    assert not at_most("a", None, 1.0).is_met and not at_least("a", None, 1.0).is_met
    assert at_most("a", None, 1.0).row()[1] == "not measured"
    assert at_most("a", 1.0, 1.0).is_met and at_least("a", 1.0, 1.0).is_met


def test_a_dashboard_costs_what_one_more_adds() -> None:
    assert dashboard_cost.per_dashboard({0: 0.05, 5: 0.06, 25: 0.10}) == pytest.approx(0.002)
    rounds = [{0: 0.1, 5: 0.2}, {0: 0.3, 5: 0.3}, {0: 0.2, 5: 0.9}]
    assert dashboard_cost.medians(rounds) == {0: 0.2, 5: 0.3}


def test_errors_of_predictions_are_shares_of_what_was_measured() -> None:
    group = roofline.summary(POINTS)["fp32"]
    assert group["config"] == {
        "median": pytest.approx(0.10), "p90": pytest.approx(0.20), "largest": pytest.approx(0.20), "count": 6,
    }  # fmt: skip
    assert group["graph"]["largest"] == pytest.approx(0.25)
    assert group["by_model"]["model 5"]["median"] == pytest.approx(0.20)


def test_a_precision_that_was_not_measured_misses_its_targets() -> None:
    only_fp32 = [point for point in POINTS if point["precision"] == "fp32"]
    missed = [each for each in roofline.verdicts({"errors": roofline.summary(only_fp32)}) if not each.is_met]
    assert [each.name.split()[0] for each in missed] == ["int8"] * 4


def test_predictions_are_tested_on_shapes_that_calibration_does_not_run() -> None:
    assert not set(roofline_runs.SHAPES) & set(calibration.SHAPES)
    sizes = {(encoder.hidden, encoder.layers) for encoder in ENCODERS}
    tested = {(model.sizes.get("hidden_size"), model.sizes.get("num_hidden_layers")) for model in random_models.MODELS}
    assert len(tested - sizes) >= 8


def test_ratios_are_taken_within_rounds() -> None:
    assert ratio_of_rounds([90.0, 40.0, 70.0], [100.0, 50.0, 100.0]) == 0.8
    assert median_of([{"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 4.0}, {"a": 2.0, "b": 9.0}]) == {"a": 2.0, "b": 5.0}


def test_memory_growth_compares_quarters_of_the_overload() -> None:
    samples = [(at / 10, 100 if at < 20 else 104) for at in range(-5, 60)]
    assert overload.memory_growth(samples, 4.0) == pytest.approx(1.04)
    assert overload.memory_growth(samples[:3], 4.0) is None


def test_soak_growth_starts_after_the_settling() -> None:
    points = [(10, 50), (100, 100), (200, 110), (300, 101), (400, 102)]
    assert soak.growth(points, 100) == pytest.approx(0.02)
    assert soak.growth(points, 400) is None


def test_normal_service_needs_five_good_answers_in_a_row() -> None:
    good = [Seen(10 + at / 10, 200, 0.05) for at in range(8)]
    assert seconds_until_normal(good, 10.0, 0.05) == pytest.approx(0.0)
    refused = [Seen(10.0, 429, 0.001), Seen(10.1, 200, 3.0), *(Seen(10.2 + at / 10, 200, 0.05) for at in range(5))]
    assert seconds_until_normal(refused, 10.0, 0.05) == pytest.approx(0.1)  # its median is that of the good ones
    assert seconds_until_normal(refused[:4], 10.0, 0.05) is None
    slow = [Seen(10 + at / 10, 200, 0.5) for at in range(8)]
    assert seconds_until_normal(slow, 10.0, 0.05) is None


def test_an_answer_of_another_text_is_found() -> None:
    expected = np.eye(4, dtype=np.float32)
    checked = checked_load.Checked(Counter())
    checked_load.compare([expected[0] + np.float32(1e-4), expected[2]], [0, 2], expected, checked)
    assert (checked.misplaced, checked.largest) == (0, pytest.approx(1e-4, rel=1e-2))
    checked_load.compare([expected[1]], [0], expected, checked)
    checked_load.compare([expected[0]], [0, 1], expected, checked)
    assert checked.misplaced == 2
    assert checked_load.nearest_other(expected) == 1.0


def test_the_engine_s_remainder_is_never_negative() -> None:
    isolated = {"schedule": 7.0, "pack and encode": 2.0, "decode and split": 1.0, "normalize": 4.0, "tokenize": 70.0}
    steps = host_cost.steps_us(isolated, 100.0, 50.0)
    assert sum(steps.values()) == pytest.approx(100 + 70 + 50)
    assert min(host_cost.steps_us(isolated, 100.0, 10.0).values()) == 0.0


def test_texts_of_an_experiment_stand_one_a_line(tmp_path: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("\n".join(f"text {number} of  many" for number in range(200)))
    texts = load.write_texts(tmp_path / "texts.txt", 100, source, longest=2000)
    assert (tmp_path / "texts.txt").read_text().splitlines() == texts
    assert len(texts) == 100 and texts[1] == "text 1 of many"
    assert max(map(len, texts)) > 500
