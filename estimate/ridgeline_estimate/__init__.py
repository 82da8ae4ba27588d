"""What a model costs: FLOPs from its shape, against the peaks of devices."""

from ridgeline_estimate.errors import EstimateError, ShapeError
from ridgeline_estimate.flops import (
    Flops,
    PartFlops,
    forward_flops,
    forward_flops_by_length,
    ragged_forward_flops,
)
from ridgeline_estimate.hardware import Peak
from ridgeline_estimate.shape import ModelShape

__all__ = [
    "EstimateError",
    "Flops",
    "ModelShape",
    "PartFlops",
    "Peak",
    "ShapeError",
    "forward_flops",
    "forward_flops_by_length",
    "ragged_forward_flops",
]
