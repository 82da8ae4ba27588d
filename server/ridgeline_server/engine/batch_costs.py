"""What a batch of each shape of the grid costs on one replica: measured at its warm-up, and kept current since."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from ridgeline_server.runtimes.grid import Grid, Shape

# Share of a new measurement, and the most that one may differ: a batch that the machine interrupted says little.
_SMOOTHING = 0.05
_MOST_CHANGE = 2.0
_APPRAISE_EVERY = 16


class BatchCosts:
    """Seconds of a batch of each shape, and what a sequence is worth in them.

    These follow what is observed a few batches later:
    values:  for each grid length, the seconds that a row of this length costs in the best full batch
    token_s: seconds per token in the best batch
    least_s: seconds of the cheapest batch
    """

    def __init__(self, grid: Grid, batch_s: Mapping[Shape, float]) -> None:
        """batch_s: measured seconds of each shape of the grid, all > 0"""
        self._grid = grid
        self._batch_s = {shape: batch_s[shape] for shape in grid.shapes}
        self._observed = 0
        self._appraise()

    def __getitem__(self, shape: Shape) -> float:
        return self._batch_s[shape]

    def observe(self, shape: Shape, seconds: float) -> None:
        """Take in one executed batch."""
        known = self._batch_s[shape]
        ratio = min(max(seconds / known, 1 / _MOST_CHANGE), _MOST_CHANGE)
        self._batch_s[shape] = known * (1 + _SMOOTHING * (ratio - 1))
        self._observed += 1
        if self._observed % _APPRAISE_EVERY == 0:
            self._appraise()

    def _appraise(self) -> None:
        per_row = dict.fromkeys(self._grid.lengths, inf)
        self.token_s = self.least_s = inf
        for (rows, length), seconds in self._batch_s.items():
            row_s = seconds / rows
            per_row[length] = min(per_row[length], row_s)
            self.token_s = min(self.token_s, row_s / length)
            self.least_s = min(self.least_s, seconds)
        values = []
        cheapest_s = inf
        for length in reversed(self._grid.lengths):  # a longer shape holds the sequence too
            cheapest_s = min(cheapest_s, per_row[length])
            values.append(cheapest_s)
        self.values = values[::-1]
