"""Predicted latency: each operation takes as long as its arithmetic or its bytes, whichever takes longer.

After Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009. Devices reach
only a share of their peaks, which differs between kinds of operations: these efficiencies are fitted to measured runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ridgeline_estimate.hardware import Device
from ridgeline_estimate.op import Op

Bound = Literal["compute", "memory", "overhead"]


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Which share of a device's peaks runs reach, and what they cost beside.

    matmul:       of the peak in the matmul's dtype, for matmuls with weights
    attention:    of the peak in the activations' dtype, for products of activations
    memory:       of the bandwidth
    op_s:         seconds of every operation that is not fused: launch, dispatch
    call_s:       seconds of every call of the runtime
    small_tokens: tokens at which a matmul reaches half of its efficiency: with few rows it is worse
    source:       which runs it was fitted to
    """

    matmul: float = 1.0
    attention: float = 1.0
    memory: float = 1.0
    op_s: float = 0.0
    call_s: float = 0.0
    small_tokens: float = 0.0
    source: str = "ideal: peaks reached in full, no overhead"


IDEAL = Efficiency()


@dataclass(frozen=True, slots=True)
class OpTime:
    """Seconds of one operation. bound: which of them binds."""

    op: Op
    compute_s: float
    memory_s: float
    overhead_s: float
    bound: Bound

    @property
    def seconds(self) -> float:
        """What it takes: the larger of compute and memory, and the overhead."""
        return max(self.compute_s, self.memory_s) + self.overhead_s


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted latency of a call.

    seconds:   sum over the operations, and the call's own
    compute_s, memory_s, overhead_s: seconds of the operations that arithmetic binds, that bytes bind, and overheads;
               they add up to `seconds`
    """

    seconds: float
    compute_s: float
    memory_s: float
    overhead_s: float
    device: Device
    efficiency: Efficiency
    ops: tuple[OpTime, ...]

    @property
    def bound(self) -> Bound:
        """What binds most of the time."""
        times: dict[Bound, float] = {
            "compute": self.compute_s,
            "memory": self.memory_s,
            "overhead": self.overhead_s,
        }
        return max(times, key=lambda name: times[name])


def predict(ops: Iterable[Op], device: Device, efficiency: Efficiency = IDEAL) -> Prediction:
    """Predict the latency of a call that runs these operations one after another.

    Raises EstimateError when the device's peak in a dtype that is needed, or its bandwidth, is not known.
    """
    raise NotImplementedError  # replaced below in this change


def fit(runs: Sequence[tuple[Sequence[Op], float]], device: Device, source: str) -> Efficiency:
    """The efficiency that explains measured runs best: (operations, measured seconds) of each.

    Minimizes the squared logarithm of predicted over measured.
    Raises EstimateError when there are fewer runs than parameters.
    """
    raise NotImplementedError
