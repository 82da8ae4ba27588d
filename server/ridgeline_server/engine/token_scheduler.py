"""Which waiting sequences make the next packed batch: the oldest ones, as many tokens as are worth their time.

A packed batch costs what its tokens cost, whatever their lengths: no sequence has to wait for others of its length, so
that sequences go in order of arrival, and nobody is overtaken within a priority. What is left to choose is how many:
of the buckets that the waiting sequences could fill, the one of most real tokens per second of the replica's time. So
a few tokens more than a bucket holds go with the next batch, where they fill up, rather than pay for a larger one. But
what they would fill up may never come: when all fit one bucket, they go at once if two batches would cost more.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from ridgeline_server.engine.batch_costs import BatchCosts
from ridgeline_server.engine.waiting import Queue, T, Waiting
from ridgeline_server.runtimes.token_grid import TokenGrid


class TokenScheduler(Queue[T]):
    """Fills packed batches."""

    def __init__(self, grid: TokenGrid) -> None:
        super().__init__(lines=1)
        self._grid = grid

    def next_batch(self, now: float, costs: BatchCosts) -> list[Waiting[T]]:
        if not self.sequences:
            return []
        (leading,), (other,) = self._leading()
        totals = list(accumulate(leading.within(self._grid.most_tokens)))
        bucket, count = self._best(totals, costs)
        if count < len(totals) == leading.count:
            bucket, count = self._all_or(bucket, count, totals, costs)
        batch = leading.take(count)
        batch += other.take(len(other.within(bucket - totals[count - 1])))
        self._mark_taken(batch)
        return batch

    def _index(self, tokens: int) -> int:
        self._grid.bucket(tokens)
        return 0

    def _best(self, totals: list[int], costs: BatchCosts) -> tuple[int, int]:
        """The bucket of most real tokens per second, and how many of the oldest sequences go into it.

        totals: tokens of the oldest sequence, of the two oldest, …
        """
        best = (-1.0, 0, 0)
        count = 0
        while count < len(totals):
            bucket = self._grid.bucket(totals[count])
            count = bisect_right(totals, bucket)  # what more fits into the bucket costs nothing
            best = max(best, (totals[count - 1] / costs[1, bucket], bucket, count))
        return best[1:]

    def _all_or(self, bucket: int, count: int, totals: list[int], costs: BatchCosts) -> tuple[int, int]:
        """All of a line, which one bucket holds, or the `count` oldest, if the rest in a batch of its own is cheaper.

        The same is asked of the rest, so that, if nobody comes, a line that fits a bucket never costs more than it.
        """
        whole = self._grid.bucket(totals[-1])
        rest = self._grid.bucket(totals[-1] - totals[count - 1])
        if costs[1, whole] <= costs[1, bucket] + costs[1, rest]:
            return whole, len(totals)
        return bucket, count
