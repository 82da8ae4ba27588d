"""What a device can do at most: figures that runtimes measure and hand in, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_estimate.errors import EstimateError


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest rate at which a device multiplies matrices of one dtype.

    flops_per_s: operations per second; a multiply-add is two, integers count alike
    dtype:       what the matmuls run in: "fp32", "bf16", "fp16", "int8" …
    source:      how the figure came about, such as "best of 20 GEMMs 1024³ through OpenVINO, 2 threads"
    measured_at: Unix seconds, None for a figure from a data sheet
    Raises EstimateError when the rate is not above 0 or has no source.
    """

    flops_per_s: float
    dtype: str
    source: str
    measured_at: float | None = None

    def __post_init__(self) -> None:
        # `not >` also refuses NaN
        if not self.flops_per_s > 0 or self.flops_per_s == float("inf"):
            raise EstimateError(f"a peak of {self.flops_per_s} FLOP/s is impossible; measure the device again")
        if not self.source:
            raise EstimateError("a peak needs a source: say how it was measured, or name the data sheet")
