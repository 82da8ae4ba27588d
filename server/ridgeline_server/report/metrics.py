"""Prometheus metrics, all named `ridgeline_*`, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ridgeline_server.report.figures import Totals, possible_flops
from ridgeline_server.report.tally import Counts, Distributions
from ridgeline_server.request import BatchRecord, ModelInfo

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BATCH = ("model", "variant", "replica")
_PHASES = ("tokenize", "queue", "compute")


class Metrics(Collector):
    """Counts requests and batches; gauges are read from their owners when Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._requests = Counts("requests", "Answered HTTP requests", "route", "status")
        self._request_seconds = Distributions("request_seconds", "From routing to the reply", "route", _SECONDS)
        self._phase_seconds = Distributions(
            "request_phase_seconds", "Time of answered requests in each phase", "phase", _SECONDS, _PHASES
        )
        self._truncated = Counts("truncated_inputs", "Inputs cut to the model's maximum length", "model")
        self._batches = Counts("batches", "Executed batches", *_BATCH)
        self._tokens = Counts(
            "tokens", "Tokens executed; kind=real are the texts', kind=padding the rest", *_BATCH, "kind"
        )
        self._flops = Counts(
            "flops",
            "Estimated FLOPs; kind=real of the texts' tokens, kind=executed with padding, kind=possible what the "
            "device could have done while busy: mfu = rate(real) / rate(possible) where peaks are measured",
            *_BATCH,
            "kind",
        )
        self._batch_rows = Distributions("batch_rows", "Sequences in a batch", "model", _ROWS)
        self._batch_seconds = Distributions("batch_seconds", "Duration of the runtime's call", "model", _SECONDS)
        self._phases = tuple(map(self._phase_seconds.of, _PHASES))

    def record_request(
        self, route: str, status: int, seconds: float, phase_s: tuple[float, float, float] | None = None
    ) -> None:
        """Count one answered request; `phase_s`: tokenize, queue and compute where the engine answered it."""
        self._requests.add((route, str(status)))
        self._request_seconds.of(route).observe(seconds)
        if phase_s is not None:
            tokenize, queue, compute = self._phases
            tokenize.observe(phase_s[0])
            queue.observe(phase_s[1])
            compute.observe(phase_s[2])

    def record_truncated(self, model: str, inputs: int) -> None:
        """Count inputs that were cut."""
        self._truncated.add((model,), inputs)

    def record_batch(self, record: BatchRecord) -> None:
        """Count one executed batch."""
        batch = (record.model, record.variant, str(record.replica))
        self._batches.add(batch)
        self._tokens.add((*batch, "real"), record.real_tokens)
        self._tokens.add((*batch, "padding"), max(record.padded_tokens - record.real_tokens, 0))
        self._flops.add((*batch, "real"), record.flops)
        self._flops.add((*batch, "executed"), record.executed_flops)
        self._flops.add((*batch, "possible"), possible_flops(record))
        self._batch_rows.of(record.model).observe(record.rows)
        self._batch_seconds.of(record.model).observe(max(record.finished - record.started, 0.0))

    def read_at_scrape(self, models: Callable[[], list[ModelInfo]], recent: Callable[[], dict[str, Totals]]) -> None:
        """Add gauges of the queue, the replicas and the recent batches, read whenever Prometheus asks."""
        self.registry.register(_Gauges(models, recent))

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Everything that was counted."""
        yield self._requests.collect()
        yield self._request_seconds.collect()
        yield self._phase_seconds.collect()
        yield self._truncated.collect()
        yield self._batches.collect()
        yield self._tokens.collect()
        yield self._flops.collect()
        yield self._batch_rows.collect()
        yield self._batch_seconds.collect()


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
