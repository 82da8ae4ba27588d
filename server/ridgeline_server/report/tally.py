"""Plain counts that Prometheus reads at a scrape: recording one costs an addition, no lock and no look-up of labels.

All of them are recorded and read on one thread.
"""

from __future__ import annotations

from bisect import bisect_left

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString


class Counts:
    """A counter: a value for each tuple of label values."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._about = (f"ridgeline_{name}", text)
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...], amount: float = 1) -> None:
        """Count `amount` more under the label values."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def collect(self) -> Metric:
        """The counter as Prometheus wants it."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return family


class Distribution:
    """One series of a histogram.

    bounds: upper bounds of its buckets, ascending; one bucket more takes the rest
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Distributions:
    """A histogram: a distribution for each tuple of label values."""

    def __init__(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> None:
        self._about = (f"ridgeline_{name}", text)
        self._bounds = bounds
        self._labels = labels
        self._series: dict[tuple[str, ...], Distribution] = {}

    def of(self, *values: str) -> Distribution:
        """The distribution of these label values."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Distribution(self._bounds)
        return series

    def collect(self) -> Metric:
        """The histogram as Prometheus wants it."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for values, series in self._series.items():
            buckets = []
            seen = 0
            for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
                seen += count
                # The library leaves this function untyped.
                buckets.append((floatToGoString(bound), float(seen)))  # type: ignore[no-untyped-call]
            family.add_metric(values, buckets, series.total)
        return family
