"""What can go wrong in an estimate.

EstimateError
├── GraphError    a file that is not an ONNX graph, or a graph that cannot run the workload
└── ShapeError    a config or a stored shape that does not describe a model we can count
"""

from __future__ import annotations


class EstimateError(ValueError):
    """An estimate cannot be made from what was given."""


class ShapeError(EstimateError):
    """A config or a stored shape does not describe a model that can be counted."""


class GraphError(EstimateError):
    """A file is not an ONNX graph, or the graph cannot run what was asked for."""
