"""Prometheus metrics, all named `ridgeline_*`, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ridgeline_server.report.figures import Totals, possible_flops, predicted_over_measured
from ridgeline_server.report.gauges import Gauges
from ridgeline_server.report.history import STEPS, Steps
from ridgeline_server.report.tally import Counts, Distribution, Distributions
from ridgeline_server.request import BatchRecord, ModelInfo

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
# Fine around 1, where a prediction is as it should be, and steps of about 1.5 further away.
_RATIOS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_BATCH = ("model", "variant", "replica")


class Metrics(Collector):
    """Counts requests and batches; gauges are read from their owners when Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._requests = Counts("requests", "Answered HTTP requests", "route", "status", "model")
        self._request_seconds = Distributions(
            "request_seconds", "From routing to the reply", _SECONDS, "route", "model"
        )
        self._phase_seconds = Distributions(
            "request_phase_seconds",
            "Time of answered requests in each phase: receive (the upload), tokenize, queue, compute, reply",
            _SECONDS,
            "phase",
            "model",
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
        self._batch_rows = Distributions("batch_rows", "Sequences in a batch", _ROWS, *_BATCH)
        self._batch_tokens = Distributions("batch_tokens", "Tokens of the texts in a batch", _TOKENS, *_BATCH)
        self._batch_seconds = Distributions("batch_seconds", "Duration of the runtime's call", _SECONDS, *_BATCH)
        self._predicted_ratio = Distributions(
            "predicted_over_measured_ratio",
            "Predicted over measured seconds of a batch; below 1 it was slower than predicted",
            _RATIOS,
            *_BATCH,
        )
        self._bounds = Counts(
            "predicted_batches", "Batches that have a prediction, by what binds most of it", *_BATCH, "bound"
        )
        self._requesters: dict[str, list[Distribution]] = {}
        self._replicas: dict[tuple[str, str, int], _Replica] = {}

    def record_request(
        self, route: str, status: int, seconds: float, steps: Steps | None = None, model: str = ""
    ) -> None:
        """Count one answered request.

        steps: seconds of each of STEPS where the engine answered it
        model: its name, empty where the request named none that is served
        """
        self._requests.add((route, str(status), model))
        self._request_seconds.of(route, model).observe(seconds)
        if steps is not None:
            series = self._requesters.get(model)
            if series is None:
                series = self._requesters[model] = [self._phase_seconds.of(step, model) for step in STEPS]
            for step, step_s in zip(series, steps, strict=True):
                step.observe(step_s)

    def record_truncated(self, model: str, inputs: int) -> None:
        """Count inputs that were cut."""
        self._truncated.add((model,), inputs)

    def record_batch(self, record: BatchRecord) -> None:
        """Count one executed batch."""
        series = self._series_of(record)
        self._batches.add(series.labels)
        self._tokens.add(series.real, record.real_tokens)
        self._tokens.add(series.padding, max(record.padded_tokens - record.real_tokens, 0))
        self._flops.add(series.real, record.flops)
        self._flops.add(series.executed, record.executed_flops)
        possible = possible_flops(record)
        if possible > 0:  # a series of zeros would make infinite utilization of what was not measured
            self._flops.add(series.possible, possible)
        series.rows.observe(record.rows)
        series.tokens.observe(record.real_tokens)
        series.seconds.observe(max(record.finished - record.started, 0.0))
        predicted = predicted_over_measured(record)
        if predicted is not None:
            self._predicted_ratio.of(*series.labels).observe(predicted)
        if record.bound is not None:
            self._bounds.add((*series.labels, record.bound))

    def read_at_scrape(
        self,
        models: Callable[[], list[ModelInfo]],
        recent: Callable[[], Mapping[tuple[str, str, int], Totals]],
    ) -> None:
        """Add gauges that are read whenever Prometheus asks.

        models: queues and replicas
        recent: sums over the recent batches, by model, variant and replica
        """
        self.registry.register(Gauges(models, recent))

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
        yield self._batch_tokens.collect()
        yield self._batch_seconds.collect()
        yield self._predicted_ratio.collect()
        yield self._bounds.collect()

    def _series_of(self, record: BatchRecord) -> _Replica:
        key = (record.model, record.variant, record.replica)
        series = self._replicas.get(key)
        if series is None:
            labels = (record.model, record.variant, str(record.replica))
            series = self._replicas[key] = _Replica(
                labels=labels,
                real=(*labels, "real"),
                padding=(*labels, "padding"),
                executed=(*labels, "executed"),
                possible=(*labels, "possible"),
                rows=self._batch_rows.of(*labels),
                tokens=self._batch_tokens.of(*labels),
                seconds=self._batch_seconds.of(*labels),
            )
        return series


@dataclass(frozen=True, slots=True)
class _Replica:
    """What a batch of one replica counts under: label values, alone and by kind, and its histograms."""

    labels: tuple[str, ...]
    real: tuple[str, ...]
    padding: tuple[str, ...]
    executed: tuple[str, ...]
    possible: tuple[str, ...]
    rows: Distribution
    tokens: Distribution
    seconds: Distribution
