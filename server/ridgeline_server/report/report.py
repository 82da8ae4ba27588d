"""Latency against FLOPs, for the batches just executed and for all since the start."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import orjson

from ridgeline_server.report.figures import FORMULAS, Totals, describe
from ridgeline_server.report.history import History
from ridgeline_server.report.replicas import describe_queue, describe_replica
from ridgeline_server.request import BatchRecord, ModelInfo


class Report:
    """What `/report` tells. The engine hands in each executed batch; memory is bounded by `recent` batches."""

    def __init__(self, recent: int = 256) -> None:
        self.history = History()
        self._recent: deque[BatchRecord] = deque(maxlen=recent)
        self._since_start: dict[str, Totals] = {}
        self._peaks: dict[tuple[str, int, str], float | None] = {}
        self._models: Callable[[], list[ModelInfo]] = list
        self._started_unix_s = time.time()
        self._started = time.monotonic()

    def record_batch(self, record: BatchRecord) -> None:
        """Take in one executed batch."""
        self._recent.append(record)
        self.history.record_batch(record)
        totals = self._since_start.get(record.model)
        if totals is None:
            totals = self._since_start[record.model] = Totals()
        totals.add(record)
        self.record_peak(record.model, record.replica, record.precision, record.peak_flops_per_s)

    def record_peak(self, model: str, replica: int, precision: str, peak_flops_per_s: float | None) -> None:
        """Take in the measured peak of a replica, None when there is none."""
        self._peaks[model, replica, precision] = peak_flops_per_s

    def forget_peaks(self) -> None:
        """Models came or went: the peaks of those that are there are recorded anew."""
        self._peaks.clear()

    def read_models(self, models: Callable[[], list[ModelInfo]]) -> None:
        """Tell of queues and replicas too, as they are when somebody asks."""
        self._models = models

    def recent_totals(self) -> dict[str, Totals]:
        """Sums over the recent batches, per model."""
        return sum_per_model(self._recent)

    def recent_replica_totals(self) -> dict[tuple[str, str, int], Totals]:
        """Sums over the recent batches, per model, variant and replica."""
        totals: defaultdict[tuple[str, str, int], Totals] = defaultdict(Totals)
        for record in self._recent:
            totals[record.model, record.variant, record.replica].add(record)
        return totals

    def as_dict(self) -> dict[str, object]:
        """The whole report; the newest batch first."""
        models = self._models()
        return {
            "started": self._started_unix_s,
            "uptime_s": time.monotonic() - self._started,
            "summary": {
                "recent": {model: totals.describe() for model, totals in self.recent_totals().items()},
                "since_start": {model: totals.describe() for model, totals in self._since_start.items()},
            },
            "peaks": [
                {"model": model, "replica": replica, "precision": precision, "peak_flops_per_s": peak}
                for (model, replica, precision), peak in self._peaks.items()
            ],
            "queue": {model.name: describe_queue(model) for model in models},
            "replicas": [describe_replica(model, replica) for model in models for replica in model.replica_infos],
            "formulas": FORMULAS,
            "batches": [describe(record) for record in reversed(self._recent)],
        }

    def as_json(self) -> bytes:
        """The report as JSON: never NaN nor infinity, which orjson writes as null."""
        return orjson.dumps(self.as_dict())


def sum_per_model(records: Iterable[BatchRecord]) -> dict[str, Totals]:
    """Totals of the records of each model."""
    totals: dict[str, Totals] = {}
    for record in records:
        totals.setdefault(record.model, Totals()).add(record)
    return totals
