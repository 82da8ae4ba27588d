"""What Prometheus reads: every series once, under names and texts that its conventions ask for."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ridgeline_server.report.processes import read_usage
from ridgeline_server.request import ReplicaInfo
from tests.server.http_fakes import FakeEngine, Server, batch_record, model_info

REPLICAS = [
    ReplicaInfo(0, "ready", os.getpid(), 2, 0, "cpu:0", 2, 2, "fp32", 1e11),
    ReplicaInfo(1, "down", None, 0, 3, "cpu:1", 2, 2, "fp32", None),
]
BATCHES = [
    batch_record(predicted_s=0.4, bound="compute"),
    batch_record(replica=1, peak_flops_per_s=None, predicted_s=5.5, bound="memory"),
    batch_record(model="other"),
]
LABELS = 'model="tiny",replica="0",variant="fp32"'


@pytest.fixture(scope="module")
def text() -> str:
    server = Server(FakeEngine([model_info(replica_infos=REPLICAS), model_info("other")]))
    server.post("/embed", {"inputs": "a text that is longer than sixteen"})
    server.post("/v1/embeddings", {"model": "other", "input": "a"})
    server.post("/v1/embeddings", {"model": "none", "input": "a"})
    for record in BATCHES:
        server.report.record_batch(record)
        server.metrics.record_batch(record)
    return server.get("/metrics").body.decode()


@pytest.fixture(scope="module")
def families(text: str) -> list[Metric]:
    return list(text_string_to_metric_families(text))


def test_no_series_is_there_twice(text: str) -> None:
    series = Counter(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))
    assert [name for name, count in series.items() if count > 1] == []
    declared = Counter(line.split()[2] for line in text.splitlines() if line.startswith("# TYPE"))
    assert set(declared.values()) == {1}


def test_every_family_has_a_type_a_text_and_samples(families: list[Metric]) -> None:
    for family in families:
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert len(family.documentation) > 10 and not family.documentation.endswith("."), family.name
        assert family.samples, family.name


def test_names_follow_the_conventions(families: list[Metric]) -> None:
    """The rules of promtool's linter."""
    for family in families:
        name = family.name
        assert re.fullmatch(r"ridgeline_[a-z]+(_[a-z]+)*", name), name
        words = set(name.split("_"))
        assert not words & {"milliseconds", "ms", "us", "percent", "kilobytes", "megabytes", "counter", "gauge"}, name
        assert not words & {"histogram", "summary", "metric"}, name
        assert not name.endswith(("_count", "_sum", "_bucket", "_total")), name
        if words & {"seconds", "bytes", "ratio"}:
            assert name.endswith(("_seconds", "_bytes", "_ratio", "_flops_per_second")), f"{name}: units come last"
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not {"le", "quantile"} & sample.labels.keys() or sample.name.endswith("_bucket"), sample


def test_histograms_are_cumulative_and_end_at_infinity(families: list[Metric]) -> None:
    seen = 0
    for family in families:
        if family.type != "histogram":
            continue
        buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                labels = {name: value for name, value in sample.labels.items() if name != "le"}
                buckets.setdefault(tuple(sorted(labels.items())), []).append((float(sample.labels["le"]), sample.value))
        for series in buckets.values():
            bounds, counts = zip(*series, strict=True)
            assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf")
            assert list(counts) == sorted(counts)
            seen += 1
    assert seen > 8


@pytest.mark.parametrize(
    "line",
    [
        f'ridgeline_batch_tokens_bucket{{le="64.0",{LABELS}}} 1.0',
        f'ridgeline_predicted_over_measured_ratio_bucket{{le="0.7",{LABELS}}} 0.0',
        f'ridgeline_predicted_over_measured_ratio_bucket{{le="0.8",{LABELS}}} 1.0',
        f'ridgeline_predicted_batches_total{{bound="compute",{LABELS}}} 1.0',
        f'ridgeline_replica_state{{{LABELS},state="ready"}} 1.0',
        f'ridgeline_replica_state{{{LABELS},state="down"}} 0.0',
        f"ridgeline_replica_in_flight_batches{{{LABELS}}} 2.0",
        'ridgeline_replica_restarts_total{model="tiny",replica="1",variant="fp32"} 3.0',
        'ridgeline_requests_total{model="other",route="/v1/embeddings",status="200"} 1.0',
        'ridgeline_request_seconds_count{model="tiny",route="/embed"} 1.0',
        'ridgeline_predicted_over_measured_ratio_sum{model="tiny",replica="1",variant="fp32"} 11.0',
    ],
)
def test_series_are_per_model_variant_and_replica(text: str, line: str) -> None:
    name, _, labels = line.partition("{")
    wanted = set(re.findall(r'\w+="[^"]*"', labels))
    found = [
        given.rpartition(" ")[2]
        for given in text.splitlines()
        if given.startswith(f"{name}{{") and set(re.findall(r'\w+="[^"]*"', given)) == wanted
    ]
    assert found == [line.rpartition(" ")[2]]


def test_what_is_not_known_has_no_series(text: str) -> None:
    assert 'ridgeline_mfu{model="tiny",replica="1"' not in text
    assert 'ridgeline_predicted_over_measured_ratio_count{model="other"' not in text
    assert 'ridgeline_replica_peak_flops_per_second{model="tiny",precision="fp32",replica="1"' not in text


def test_processes_are_told_apart(families: list[Metric]) -> None:
    (cpu,) = (family for family in families if family.name == "ridgeline_process_cpu_seconds")
    assert {(sample.labels["process"], sample.labels["replica"]) for sample in cpu.samples} == {
        ("server", ""),
        ("worker", "0"),
    }
    (memory,) = (family for family in families if family.name == "ridgeline_process_resident_memory_bytes")
    assert all(sample.value > 1e6 for sample in memory.samples)


def test_a_process_that_is_gone_has_no_usage() -> None:
    assert read_usage(2**22 + 1) is None
