"""The median of a stream of ratios, in memory that does not grow with the stream."""

from __future__ import annotations

from math import exp, log

# Ratios in one bucket differ by at most 2 %, so that the bucket's middle is within 1 % of each.
MEDIAN_ERROR = 0.01
_WIDTH = 2 * MEDIAN_ERROR
_LEAST, _MOST = 1e-6, 1e6


class RunningMedian:
    """Counts ratios above 0 in buckets of equal relative width; those out of [1e-6, 1e6] count as its ends."""

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0

    def add(self, ratio: float) -> None:
        """Count one ratio; what is no positive number is left out."""
        if not ratio > 0:
            return
        bucket = int(log(min(max(ratio, _LEAST), _MOST)) / _WIDTH // 1)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1

    @property
    def value(self) -> float | None:
        """The median within MEDIAN_ERROR, None of no ratio at all."""
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if 2 * seen >= self._total:
                return exp((bucket + 0.5) * _WIDTH)
        return None
