"""Percentiles of durations and ratios, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log

# Durations in one bucket differ by at most 4 %, so that the bucket's middle is within 2 % of each.
PERCENTILE_ERROR = 0.02
_PER_E_FOLD = 1 / (2 * PERCENTILE_ERROR)
_LEAST_S, _MOST_S = 1e-6, 1e5


class Percentiles:
    """Counts durations in buckets of equal relative width; those out of [1 µs, 28 h] count as its ends.

    Ratios fit as they are, as numbers between 1e-6 and 1e5.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        # Not min and max: this runs once for every request.
        if not seconds > _LEAST_S:
            seconds = _LEAST_S
        elif seconds > _MOST_S:
            seconds = _MOST_S
        bucket = int(log(seconds) * _PER_E_FOLD // 1)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1

    def at(self, *shares: float) -> list[float | None]:
        """For each share, ascending, the least duration that so much of them do not exceed; None where there are none.

        Within PERCENTILE_ERROR.
        """
        if not self.total:
            return [None] * len(shares)
        found: list[float | None] = []
        seen = 0
        buckets = iter(sorted(self.counts))
        bucket = 0
        for share in shares:
            while seen < share * self.total:
                bucket = next(buckets)
                seen += self.counts[bucket]
            found.append(exp((bucket + 0.5) / _PER_E_FOLD))
        return found


def together(parts: Iterable[Percentiles]) -> Percentiles:
    """The durations of all parts."""
    whole = Percentiles()
    for part in parts:
        for bucket, count in part.counts.items():
            whole.counts[bucket] = whole.counts.get(bucket, 0) + count
        whole.total += part.total
    return whole
