"""Batch times of a running server, by shape, from what `/report` tells of its recent batches."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from threading import Event, Thread
from typing import Any

import numpy as np
from experiments.lab.server import Server

from ridgeline_server.runtimes.grid import Grid, Shape

_POLL_S = 0.1


class Recorder:
    """Collects (shape, seconds) of every batch from a thread, while its `with` block lasts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seconds: dict[Shape, list[float]] = defaultdict(list)
        self._over = Event()
        self._thread = Thread(target=self._poll, daemon=True)
        self._seen = self._total(self._read())

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def batch_s(self, grid: Grid) -> dict[Shape, float]:
        """Mean seconds of each shape of the grid; of a shape that did not run, a fit over those that did.

        The fit is a + b·rows·length + c·rows·length², weighted so that relative errors count.
        """
        means = {shape: statistics.fmean(self._seconds[shape]) for shape in grid.shapes if self._seconds.get(shape)}
        seconds = np.array(list(means.values()))
        terms = np.array([_terms(shape) for shape in means])
        fit = np.linalg.lstsq(terms / seconds[:, None], np.ones(len(seconds)), rcond=None)[0]
        least = float(seconds.min())
        return {shape: means.get(shape) or max(float(np.dot(_terms(shape), fit)), least) for shape in grid.shapes}

    @property
    def batches(self) -> int:
        """How many batches were collected."""
        return sum(map(len, self._seconds.values()))

    def _poll(self) -> None:
        while not self._over.wait(_POLL_S):
            report = self._read()
            total = self._total(report)
            for batch in report["batches"][: total - self._seen]:  # the newest first
                rows, length = batch["shape"]
                self._seconds[rows, length].append(batch["latency_s"])
            self._seen = total

    def _read(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._server.get("/report"))
        return report

    @staticmethod
    def _total(report: dict[str, Any]) -> int:
        return sum(sums["batches"] for sums in report["summary"]["since_start"].values())


def _terms(shape: Shape) -> tuple[float, float, float]:
    rows, length = shape
    return 1.0, float(rows * length), float(rows * length * length)
