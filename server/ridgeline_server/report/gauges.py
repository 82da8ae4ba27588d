"""Metrics that are read from their owners when Prometheus asks: queues, replicas, processes, recent utilization."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ridgeline_server.report.figures import Totals
from ridgeline_server.report.processes import read_usage
from ridgeline_server.request import ModelInfo, ReplicaInfo

_STATES = ("loading", "ready", "unresponsive", "down", "stopped")
Sample = tuple[tuple[str, ...], float]


class Gauges(Collector):
    """Reads everything at a scrape."""

    def __init__(
        self,
        models: Callable[[], list[ModelInfo]],
        recent: Callable[[], Mapping[tuple[str, str, int], Totals]],
    ) -> None:
        self._models = models
        self._recent = recent

    def describe(self) -> Iterable[Metric]:
        """Nothing, as in Metrics."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Everything, as it is now."""
        models = self._models()
        replicas = [(model, replica) for model in models for replica in model.replica_infos]
        yield from _models(models)
        yield from _replicas(replicas)
        yield from _utilization(self._recent())
        yield from _processes(replicas)


def _models(models: Sequence[ModelInfo]) -> Iterable[Metric]:
    label = ("model",)
    yield _gauge(
        "model_info",
        "1 for each served model, and what it is",
        ("model", "model_id", "variant", "runtime", "precision", "device"),
        (((m.name, m.model_id, m.variant, m.runtime, m.precision, m.device), 1) for m in models),
    )
    yield _gauge(
        "model_version", "Counts what was loaded under the name", label, (((m.name,), m.version) for m in models)
    )
    yield _gauge("queue_sequences", "Sequences waiting", label, (((m.name,), m.queued_sequences) for m in models))
    yield _gauge("queue_tokens", "Tokens waiting", label, (((m.name,), m.queued_tokens) for m in models))
    yield _gauge("replicas", "Replicas configured", label, (((m.name,), m.replicas) for m in models))
    yield _gauge("ready_replicas", "Replicas that can serve", label, (((m.name,), m.ready_replicas) for m in models))


def _replicas(replicas: Sequence[tuple[ModelInfo, ReplicaInfo]]) -> Iterable[Metric]:
    labels = ("model", "variant", "replica")
    named = [((model.name, model.variant, str(replica.index)), replica) for model, replica in replicas]
    yield _gauge(
        "replica_state",
        "1 for the state that a replica is in, 0 for the others",
        (*labels, "state"),
        (((*names, state), float(replica.state == state)) for names, replica in named for state in _STATES),
    )
    yield _gauge(
        "replica_in_flight_batches",
        "Batches sent to a replica and not answered",
        labels,
        ((names, replica.in_flight) for names, replica in named),
    )
    yield _counter(
        "replica_restarts",
        "Workers of a replica that ended and were replaced",
        labels,
        ((names, replica.restarts) for names, replica in named),
    )
    yield _gauge(
        "replica_peak_flops_per_second",
        "Measured peak of a replica's share of its device, in the precision of its matmuls",
        (*labels, "precision"),
        (
            ((*names, replica.precision), replica.peak_flops_per_s)
            for names, replica in named
            if replica.peak_flops_per_s is not None
        ),
    )


def _utilization(totals: Mapping[tuple[str, str, int], Totals]) -> Iterable[Metric]:
    for name, text in (
        ("mfu", "Real FLOPs of recent batches / what their devices could have done"),
        ("hfu", "As mfu, padding counted as work"),
        ("padding_waste", "Share of the tokens of recent batches that was padding"),
    ):
        figures = [
            ((model, variant, str(replica)), getattr(sums, name)) for (model, variant, replica), sums in totals.items()
        ]
        yield _gauge(
            name,
            text,
            ("model", "variant", "replica"),
            ((labels, figure) for labels, figure in figures if figure is not None),
        )


def _processes(replicas: Sequence[tuple[ModelInfo, ReplicaInfo]]) -> Iterable[Metric]:
    pids = {("server", "", ""): os.getpid()}
    pids |= {
        ("worker", model.name, str(replica.index)): replica.pid
        for model, replica in replicas
        if replica.pid is not None
    }
    used = {names: usage for names, pid in pids.items() if (usage := read_usage(pid)) is not None}
    labels = ("process", "model", "replica")
    yield _counter(
        "process_cpu_seconds",
        "CPU time of the server's process and of each worker's, user and system",
        labels,
        ((names, usage.cpu_s) for names, usage in used.items()),
    )
    yield _gauge(
        "process_resident_memory_bytes",
        "Resident memory of the server's process and of each worker's",
        labels,
        ((names, usage.resident_bytes) for names, usage in used.items()),
    )


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ridgeline_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"ridgeline_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
