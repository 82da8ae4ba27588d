"""Metrics of the answers that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ridgeline_server.request import CacheCounts


class CacheMetrics(Collector):
    """Reads the counts of each model at a scrape."""

    def __init__(self, counts: Callable[[], Mapping[str, CacheCounts]], most_bytes: int) -> None:
        """counts: by names of models; most_bytes: what all of them may hold together"""
        self._counts = counts
        self._most_bytes = most_bytes

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect in order to know the names."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Everything, as it is now."""
        label = ("model",)
        inputs = CounterMetricFamily(
            "ridgeline_cache_inputs",
            "Inputs of answered requests; outcome=hit was kept, outcome=miss was computed",
            labels=("model", "outcome"),
        )
        evictions = CounterMetricFamily(
            "ridgeline_cache_evictions", "Kept answers that had to go for others", labels=label
        )
        held = GaugeMetricFamily("ridgeline_cache_bytes", "Bytes of kept answers, keys included", labels=label)
        entries = GaugeMetricFamily("ridgeline_cache_entries", "Answers that are kept", labels=label)
        for model, counts in self._counts().items():
            inputs.add_metric((model, "hit"), counts.hits)
            inputs.add_metric((model, "miss"), counts.misses)
            evictions.add_metric((model,), counts.evictions)
            held.add_metric((model,), counts.held_bytes)
            entries.add_metric((model,), counts.entries)
        yield from (inputs, evictions, held, entries)
        yield GaugeMetricFamily(
            "ridgeline_cache_most_bytes", "Bytes that kept answers may take, of all models", self._most_bytes
        )
