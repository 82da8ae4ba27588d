"""The figures of the report, each a formula over batch records, and what they are in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from ridgeline_server.report.percentiles import PERCENTILE_ERROR, Percentiles
from ridgeline_server.request import BatchRecord

FORMULAS: dict[str, dict[str, str]] = {
    "latency_s": {
        "formula": "finished - started",
        "source": "monotonic instants that the worker takes just before and just after the runtime's call",
    },
    "busy_s": {
        "formula": "sum of latency_s over the batches",
        "source": "batches that ran side by side on one replica each count in full; `share` corrects MFU for that",
    },
    "flops": {
        "formula": "sum over the sequences of the model's forward FLOPs at their real length",
        "source": "the estimator, from the bundle's model shape; one multiply-add counts 2",
    },
    "executed_flops": {
        "formula": "the same estimate at the padded shape that the runtime executed; of a packed batch flops, and of "
        "the tokens that fill its bucket up all but attention",
        "source": "the estimator",
    },
    "achieved_flops_per_s": {"formula": "flops / busy_s", "source": "flops and latency_s above"},
    "peak_flops_per_s": {
        "formula": "FLOPs of a large matrix product / its seconds, in the batch's precision",
        "source": "measured on this machine with the replica's own cores; null = not measured",
    },
    "mfu": {
        "formula": "flops / sum of (latency_s x peak_flops_per_s x share)",
        "source": "model FLOPs utilization over the batches whose peak is measured; null when none is",
    },
    "hfu": {
        "formula": "executed_flops / sum of (latency_s x peak_flops_per_s x share)",
        "source": "as mfu, with the padding that was executed counted as work",
    },
    "padding_waste": {
        "formula": "1 - real_tokens / padded_tokens",
        "source": "token counts of the batches as they were executed",
    },
    "predicted_s": {
        "formula": "sum over the executed shape's operations of max(compute, memory) + overheads",
        "source": "roofline with the batch's share of the peaks, bandwidth and efficiencies that `ridgeline devices "
        "--calibrate` measured on this machine; without a calibration executed_flops / (peak_flops_per_s x share), the "
        "least that the batch can take; `roofline` of each replica says which, and a packed batch has the latter",
    },
    "bound": {
        "formula": "the largest of the seconds that arithmetic, memory and overheads take in predicted_s",
        "source": "the same prediction",
    },
    "predicted_over_measured": {
        "formula": "predicted_s / latency_s",
        "source": "1 = as predicted, below 1 = slower; null where nothing is predicted",
    },
    "median_predicted_over_measured": {
        "formula": "median of predicted_over_measured over the batches",
        "source": f"within {PERCENTILE_ERROR:.0%}, since ratios are counted in buckets; the median of measured over "
        "predicted is its inverse",
    },
    "bounds": {"formula": "number of batches by bound", "source": "batches that have a prediction"},
    "uptime_s": {"formula": "now - started", "source": "the server's monotonic clock"},
    "queue": {
        "formula": "sequences and tokens that wait for a batch at this moment",
        "source": "the scheduler",
    },
    "replicas": {
        "formula": "in_flight = batches sent and not answered; restarts = workers that ended and were replaced",
        "source": "the supervision of the workers at this moment",
    },
}


def ratio(numerator: float, denominator: float) -> float | None:
    """numerator / denominator, None where that has no value."""
    return numerator / denominator if denominator > 0 else None


def possible_flops(record: BatchRecord) -> float:
    """FLOPs that the batch's share of its device could have done while it ran; 0 when the peak is not measured."""
    if record.peak_flops_per_s is None:
        return 0.0
    return max(record.finished - record.started, 0.0) * record.peak_flops_per_s * record.share


def predicted_over_measured(record: BatchRecord) -> float | None:
    """predicted_s / latency_s, None where nothing is predicted."""
    if record.predicted_s is None:
        return None
    return ratio(record.predicted_s, record.finished - record.started)


def describe(record: BatchRecord) -> dict[str, object]:
    """One batch, as `/report` lists it."""
    latency_s = max(record.finished - record.started, 0.0)
    possible = possible_flops(record)
    return {
        "model": record.model,
        "variant": record.variant,
        "runtime": record.runtime,
        "precision": record.precision,
        "replica": record.replica,
        "size": record.rows,
        "shape": list(record.shape),
        "real_tokens": record.real_tokens,
        "padded_tokens": record.padded_tokens,
        "flops": record.flops,
        "executed_flops": record.executed_flops,
        "latency_s": latency_s,
        "achieved_flops_per_s": ratio(record.flops, latency_s),
        "peak_flops_per_s": record.peak_flops_per_s,
        "share": record.share,
        "mfu": ratio(record.flops, possible),
        "hfu": ratio(record.executed_flops, possible),
        "padding_waste": padding_waste(record.real_tokens, record.padded_tokens),
        "predicted_s": record.predicted_s,
        "predicted_over_measured": predicted_over_measured(record),
        "bound": record.bound,
    }


def padding_waste(real_tokens: int, padded_tokens: int) -> float | None:
    """Share of the executed tokens that were padding."""
    real = ratio(real_tokens, padded_tokens)
    return None if real is None else 1.0 - real


@dataclass(slots=True)
class Totals:
    """Sums over batches, and the figures that follow from them.

    measured_flops, measured_executed_flops: only of the batches whose peak is measured
    possible_flops: what those batches' devices could have done meanwhile
    predicted_over_measured: of the batches that have a prediction; `bounds` counts them by what binds
    """

    batches: int = 0
    sequences: int = 0
    real_tokens: int = 0
    padded_tokens: int = 0
    flops: float = 0.0
    executed_flops: float = 0.0
    busy_s: float = 0.0
    measured_flops: float = 0.0
    measured_executed_flops: float = 0.0
    possible_flops: float = 0.0
    predicted_over_measured: Percentiles = field(default_factory=Percentiles)
    bounds: dict[str, int] = field(default_factory=dict)

    def add(self, record: BatchRecord) -> None:
        """Count one more batch."""
        self.batches += 1
        self.sequences += record.rows
        self.real_tokens += record.real_tokens
        self.padded_tokens += record.padded_tokens
        self.flops += record.flops
        self.executed_flops += record.executed_flops
        self.busy_s += max(record.finished - record.started, 0.0)
        possible = possible_flops(record)
        if possible > 0:
            self.measured_flops += record.flops
            self.measured_executed_flops += record.executed_flops
            self.possible_flops += possible
        predicted = predicted_over_measured(record)
        if predicted is not None:
            self.predicted_over_measured.add(predicted)
        if record.bound is not None:
            self.bounds[record.bound] = self.bounds.get(record.bound, 0) + 1

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization."""
        return ratio(self.measured_flops, self.possible_flops)

    @property
    def hfu(self) -> float | None:
        """Hardware FLOPs utilization: padding counts as work."""
        return ratio(self.measured_executed_flops, self.possible_flops)

    @property
    def padding_waste(self) -> float | None:
        """Share of the executed tokens that were padding."""
        return padding_waste(self.real_tokens, self.padded_tokens)

    def describe(self) -> dict[str, object]:
        """The sums and figures, as `/report` summarizes them."""
        return {
            "batches": self.batches,
            "sequences": self.sequences,
            "real_tokens": self.real_tokens,
            "padded_tokens": self.padded_tokens,
            "flops": self.flops,
            "executed_flops": self.executed_flops,
            "busy_s": self.busy_s,
            "mean_latency_s": ratio(self.busy_s, self.batches),
            "achieved_flops_per_s": ratio(self.flops, self.busy_s),
            "mfu": self.mfu,
            "hfu": self.hfu,
            "padding_waste": self.padding_waste,
            "median_predicted_over_measured": self.predicted_over_measured.at(0.5)[0],
            "bounds": dict(self.bounds),
        }
