"""Prometheus metrics, all named `ridgeline_*`, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ridgeline_server.report.figures import Totals, possible_flops
from ridgeline_server.report.timings import phases
from ridgeline_server.request import BatchRecord, Instants, ModelInfo

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counts requests and batches; gauges are read from their owners when Prometheus asks."""

    def __init__(self) -> None:
        # A second series per metric that nothing reads; the library leaves this function untyped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Answered HTTP requests", "route", "status")
        self._request_seconds = self._histogram("request_seconds", "From routing to the reply", _SECONDS, "route")
        self._phase_seconds = self._histogram(
            "request_phase_seconds", "Time of answered requests in each phase", _SECONDS, "phase"
        )
        self._truncated = self._counter("truncated_inputs", "Inputs cut to the model's maximum length", "model")
        batch = ("model", "variant", "replica")
        self._batches = self._counter("batches", "Executed batches", *batch)
        self._tokens = self._counter(
            "tokens", "Tokens executed; kind=real are the texts', kind=padding the rest", *batch, "kind"
        )
        self._flops = self._counter(
            "flops",
            "Estimated FLOPs; kind=real of the texts' tokens, kind=executed with padding, kind=possible what the "
            "device could have done while busy: mfu = rate(real) / rate(possible) where peaks are measured",
            *batch,
            "kind",
        )
        self._batch_rows = self._histogram("batch_rows", "Sequences in a batch", _ROWS, "model")
        self._batch_seconds = self._histogram("batch_seconds", "Duration of the runtime's call", _SECONDS, "model")
        self._phases = tuple(self._phase_seconds.labels(phase) for phase in ("tokenize", "queue", "compute"))
        self._by_status: dict[tuple[str, int], Counter] = {}
        self._by_route: dict[str, Histogram] = {}

    def record_request(self, route: str, status: int, seconds: float, instants: Instants | None = None) -> None:
        """Count one answered request; `instants` where the engine answered it."""
        count = self._by_status.get((route, status))
        if count is None:
            count = self._by_status[route, status] = self._requests.labels(route, str(status))
            self._by_route[route] = self._request_seconds.labels(route)
        count.inc()
        self._by_route[route].observe(seconds)
        if instants is not None:
            for histogram, phase_s in zip(self._phases, phases(instants, instants.finished), strict=False):
                histogram.observe(phase_s)

    def record_truncated(self, model: str, inputs: int) -> None:
        """Count inputs that were cut."""
        self._truncated.labels(model).inc(inputs)

    def record_batch(self, record: BatchRecord) -> None:
        """Count one executed batch."""
        batch = (record.model, record.variant, str(record.replica))
        self._batches.labels(*batch).inc()
        self._tokens.labels(*batch, "real").inc(record.real_tokens)
        self._tokens.labels(*batch, "padding").inc(max(record.padded_tokens - record.real_tokens, 0))
        self._flops.labels(*batch, "real").inc(record.flops)
        self._flops.labels(*batch, "executed").inc(record.executed_flops)
        self._flops.labels(*batch, "possible").inc(possible_flops(record))
        self._batch_rows.labels(record.model).observe(record.rows)
        self._batch_seconds.labels(record.model).observe(max(record.finished - record.started, 0.0))

    def read_at_scrape(self, models: Callable[[], list[ModelInfo]], recent: Callable[[], dict[str, Totals]]) -> None:
        """Add gauges of the queue, the replicas and the recent batches, read whenever Prometheus asks."""
        self.registry.register(_Gauges(models, recent))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ridgeline_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"ridgeline_{name}", text, labels, registry=self.registry, buckets=buckets)


class _Gauges(Collector):
    def __init__(self, models: Callable[[], list[ModelInfo]], recent: Callable[[], dict[str, Totals]]) -> None:
        self._models = models
        self._recent = recent

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        infos = self._models()
        yield _gauge("queue_sequences", "Sequences waiting", {info.name: info.queued_sequences for info in infos})
        yield _gauge("queue_tokens", "Tokens waiting", {info.name: info.queued_tokens for info in infos})
        yield _gauge("replicas", "Replicas configured", {info.name: info.replicas for info in infos})
        yield _gauge("ready_replicas", "Replicas that can serve", {info.name: info.ready_replicas for info in infos})
        totals = self._recent()
        yield _gauge("mfu", "Real FLOPs of recent batches / what their devices could have done", _known(totals, "mfu"))
        yield _gauge("hfu", "As mfu, padding counted as work", _known(totals, "hfu"))
        yield _gauge(
            "padding_waste", "Share of the tokens of recent batches that was padding", _known(totals, "padding_waste")
        )


def _known(totals: dict[str, Totals], figure: str) -> dict[str, float]:
    figures = {model: getattr(sums, figure) for model, sums in totals.items()}
    return {model: value for model, value in figures.items() if value is not None}


def _gauge(name: str, text: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ridgeline_{name}", text, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], value)
    return family
