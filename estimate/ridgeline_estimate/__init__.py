"""What a model costs: operations from its architecture, against the peaks of devices."""

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.counting import count_parameters, flops_by_length, model_ops
from ridgeline_estimate.errors import EstimateError, ShapeError
from ridgeline_estimate.hardware import Peak
from ridgeline_estimate.op import Op, add_up, add_up_by
from ridgeline_estimate.precision import find_precision
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.shape import ModelShape
from ridgeline_estimate.workload import Mode, Workload

__all__ = [
    "Architecture",
    "EstimateError",
    "Mode",
    "ModelShape",
    "Op",
    "Peak",
    "ShapeError",
    "Workload",
    "add_up",
    "add_up_by",
    "count_parameters",
    "find_precision",
    "flops_by_length",
    "model_ops",
    "read_architecture",
]
