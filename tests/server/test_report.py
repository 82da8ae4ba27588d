import json
import math

import pytest

from ridgeline_server.report import Report
from ridgeline_server.report.figures import FORMULAS
from ridgeline_server.report.percentiles import PERCENTILE_ERROR
from ridgeline_server.report.timings import phases, server_timing
from ridgeline_server.request import Instants, ReplicaInfo, Roofline, ShapePrediction
from tests.server.http_fakes import batch_record, model_info


def test_a_batch_is_described_by_its_formulas() -> None:
    report = Report()
    report.record_batch(batch_record())
    (batch,) = report.as_dict()["batches"]  # type: ignore[misc]
    assert batch["latency_s"] == 0.5
    assert batch["achieved_flops_per_s"] == pytest.approx(1.2e10)
    # half of the cores, 1e11 FLOP/s, half a second: 2.5e10 FLOPs possible
    assert batch["mfu"] == pytest.approx(6e9 / 2.5e10)
    assert batch["hfu"] == pytest.approx(8e9 / 2.5e10)
    assert batch["padding_waste"] == pytest.approx(0.25)


def test_summaries_are_per_model_and_weigh_by_time() -> None:
    report = Report(recent=2)
    report.record_batch(batch_record(flops=100e9))
    report.record_batch(batch_record())
    report.record_batch(batch_record(started=200.0, finished=201.5, flops=2e9))
    report.record_batch(batch_record(model="other"))
    summary = report.as_dict()["summary"]
    recent, since_start = summary["recent"], summary["since_start"]  # type: ignore[index]
    assert recent.keys() == since_start.keys() == {"tiny", "other"}
    assert (recent["tiny"]["batches"], since_start["tiny"]["batches"]) == (1, 3)
    assert since_start["tiny"]["flops"] == 108e9
    assert since_start["tiny"]["mfu"] == pytest.approx(108e9 / (2.5 * 1e11 * 0.5))
    assert since_start["tiny"]["mean_latency_s"] == pytest.approx(2.5 / 3)


def test_what_is_not_measured_is_null() -> None:
    report = Report()
    report.record_batch(batch_record(peak_flops_per_s=None))
    answer = json.loads(report.as_json())
    assert (answer["batches"][0]["mfu"], answer["batches"][0]["hfu"]) == (None, None)
    assert answer["summary"]["recent"]["tiny"]["mfu"] is None
    assert answer["batches"][0]["achieved_flops_per_s"] == pytest.approx(1.2e10)
    report.record_batch(batch_record())
    assert report.recent_totals()["tiny"].mfu == pytest.approx(0.24)


def test_json_never_holds_nan_or_infinity() -> None:
    report = Report()
    report.record_batch(batch_record(started=1.0, finished=1.0, padded_tokens=0, real_tokens=0))
    report.record_batch(batch_record(flops=math.nan, peak_flops_per_s=math.inf, executed_flops=math.inf))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    answer = json.loads(report.as_json(), parse_constant=refuse)
    assert answer["batches"][1]["padding_waste"] is None


def test_memory_is_bounded_and_the_newest_batch_comes_first() -> None:
    report = Report(recent=3)
    for row in range(1, 11):
        report.record_batch(batch_record(rows=row))
    answer = report.as_dict()
    assert [batch["size"] for batch in answer["batches"]] == [10, 9, 8]  # type: ignore[attr-defined]
    assert answer["summary"]["since_start"]["tiny"]["sequences"] == 55  # type: ignore[index]


def test_batches_are_held_against_their_predictions() -> None:
    report = Report()
    for predicted_s in (0.1, 0.4, 0.45, 0.5, 5.0):
        report.record_batch(batch_record(predicted_s=predicted_s, bound="memory"))
    report.record_batch(batch_record())
    answer = report.as_dict()
    unknown, *_, first = answer["batches"]  # type: ignore[misc]
    assert (first["predicted_s"], first["predicted_over_measured"], first["bound"]) == (0.1, 0.2, "memory")
    assert (unknown["predicted_s"], unknown["predicted_over_measured"], unknown["bound"]) == (None, None, None)
    for summary in answer["summary"].values():  # type: ignore[attr-defined]
        assert summary["tiny"]["median_predicted_over_measured"] == pytest.approx(0.9, rel=PERCENTILE_ERROR)
        assert summary["tiny"]["bounds"] == {"memory": 5}


def test_queues_and_replicas_are_told_as_they_are() -> None:
    roofline = Roofline(
        is_complete=True,
        flops_per_s={"int8": 1e12, "fp32": 2e11},
        bytes_per_s=1e10,
        efficiency={"matmul": 0.8, "op_s": 1e-6},
        source="measured",
        shapes=[ShapePrediction((1, 32), 0.002, "compute", 1e9)],
    )
    replicas = [
        ReplicaInfo(0, "ready", 4711, 2, 0, "cpu:0", 2, 2, "int8", 1e12, roofline),
        ReplicaInfo(1, "down", None, 0, 3, "cpu:1", 2, 2, "int8", None),
    ]
    report = Report()
    assert (report.as_dict()["queue"], report.as_dict()["replicas"]) == ({}, [])
    report.read_models(lambda: [model_info(replica_infos=replicas), model_info("other")])
    answer = json.loads(report.as_json())
    assert answer["queue"] == {name: {"sequences": 2, "tokens": 34} for name in ("tiny", "other")}
    first, second = answer["replicas"]
    assert (first["model"], first["replica"], first["state"], first["in_flight"]) == ("tiny", 0, "ready", 2)
    assert first["roofline"]["shapes"] == [
        {"shape": [1, 32], "predicted_s": 0.002, "bound": "compute", "executed_flops": 1e9}
    ]
    assert (second["state"], second["restarts"], second["roofline"]) == ("down", 3, None)


def test_peaks_are_listed_per_replica_and_precision() -> None:
    report = Report()
    report.record_batch(batch_record())
    report.record_batch(batch_record(replica=1, precision="int8", peak_flops_per_s=None))
    assert report.as_dict()["peaks"] == [
        {"model": "tiny", "replica": 0, "precision": "fp32", "peak_flops_per_s": 1e11},
        {"model": "tiny", "replica": 1, "precision": "int8", "peak_flops_per_s": None},
    ]


def test_every_figure_has_its_formula_and_source() -> None:
    report = Report()
    report.record_batch(batch_record())
    (batch,) = report.as_dict()["batches"]  # type: ignore[misc]
    figures = {"latency_s", "flops", "executed_flops", "achieved_flops_per_s", "mfu", "hfu", "padding_waste"}
    figures |= {"predicted_s", "predicted_over_measured", "bound"}
    assert figures <= FORMULAS.keys() and figures <= batch.keys()
    assert all(figure["formula"] and figure["source"] for figure in FORMULAS.values())


def test_phases_add_up_to_the_total() -> None:
    instants = Instants(received=10.0, tokenized=10.1, started=10.4, finished=10.9)
    assert phases(instants, 10.9) == pytest.approx((0.1, 0.3, 0.5))
    assert server_timing(phases(instants, 10.9), reply_s=0.1, receive_s=0.5) == (
        b"receive;dur=500.000, tokenize;dur=100.000, queue;dur=300.000, compute;dur=500.000, reply;dur=100.000, "
        b"total;dur=1500.000"
    )


@pytest.mark.parametrize(
    ("instants", "expected"),
    [
        (Instants(received=10.0), (1.0, 0.0, 0.0)),
        (Instants(received=10.0, tokenized=10.25), (0.25, 0.75, 0.0)),
        (Instants(received=10.0, tokenized=10.25, started=10.5), (0.25, 0.25, 0.5)),
    ],
    ids=["in-tokenize", "in-queue", "in-compute"],
)
def test_the_phase_that_was_reached_takes_the_rest(instants: Instants, expected: tuple[float, ...]) -> None:
    assert phases(instants, 11.0) == expected
