"""What a device can do at most: figures that are measured, or taken from a data sheet, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

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
        _check(self.flops_per_s, "FLOP/s", self.source)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """The highest rate at which a device moves bytes from and to its memory. Fields as in Peak."""

    bytes_per_s: float
    source: str
    measured_at: float | None = None

    def __post_init__(self) -> None:
        _check(self.bytes_per_s, "bytes/s", self.source)


@dataclass(frozen=True, slots=True)
class Device:
    """A device, or a share of one.

    name:            as people call it: "H100 SXM", "Intel Xeon … (2 cores)"
    kind:            "cpu" or "cuda"
    peaks:           by dtype; a dtype that is not there is unknown, never guessed
    bandwidth:       from and to memory
    memory_bytes:    what it has for models, None = unknown
    runtime:         what the figures were measured through, None for a data sheet
    cache_bandwidth: from and to its cache, None = unknown
    cache_bytes:     what that cache holds, None = unknown
    """

    name: str
    kind: str
    peaks: Mapping[str, Peak] = field(default_factory=dict)
    bandwidth: Bandwidth | None = None
    memory_bytes: int | None = None
    runtime: str | None = None
    cache_bandwidth: Bandwidth | None = None
    cache_bytes: int | None = None

    def peak(self, dtype: str) -> Peak:
        """The peak in that dtype. Raises EstimateError when it is not known."""
        try:
            return self.peaks[dtype]
        except KeyError:
            known = ", ".join(self.peaks) or "none"
            raise EstimateError(
                f"the {dtype} peak of {self.name} is not known (known: {known}); measure it there with "
                "`ridgeline devices --calibrate`, or choose a dtype that is known"
            ) from None


def _check(rate: float, unit: str, source: str) -> None:
    if not (isfinite(rate) and rate > 0):
        raise EstimateError(f"a peak of {rate} {unit} is impossible; measure the device again")
    if not source:
        raise EstimateError("a peak needs a source: say how it was measured, or name the data sheet")
