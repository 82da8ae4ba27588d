"""What a model costs: operations from its architecture, against the peaks of devices.

Names are imported when they are first asked for: a worker needs one small module of this package, and is waited for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridgeline_estimate.architecture import Architecture
    from ridgeline_estimate.counting import count_parameters, flops_by_length, model_ops
    from ridgeline_estimate.errors import EstimateError, ShapeError
    from ridgeline_estimate.hardware import Peak
    from ridgeline_estimate.op import Op, add_up, add_up_by
    from ridgeline_estimate.precision import find_precision
    from ridgeline_estimate.reading import read_architecture
    from ridgeline_estimate.shape import ModelShape
    from ridgeline_estimate.workload import Mode, Workload

_MODULES = {
    "Architecture": "architecture",
    "EstimateError": "errors",
    "Mode": "workload",
    "ModelShape": "shape",
    "Op": "op",
    "Peak": "hardware",
    "ShapeError": "errors",
    "Workload": "workload",
    "add_up": "op",
    "add_up_by": "op",
    "count_parameters": "counting",
    "find_precision": "precision",
    "flops_by_length": "counting",
    "model_ops": "counting",
    "read_architecture": "reading",
}

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


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
