"""What a model costs: FLOPs from its shape, against the peaks of devices."""

from ridgeline_estimate.errors import EstimateError, ShapeError
from ridgeline_estimate.shape import ModelShape

__all__ = ["EstimateError", "ModelShape", "ShapeError"]
