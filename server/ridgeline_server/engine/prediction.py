"""What the roofline says of each shape that a replica executes, worked out once, so that a batch costs a look-up."""

from __future__ import annotations

from typing import Protocol

from ridgeline_server.engine.cost import CostTable
from ridgeline_server.request import Roofline, ShapePrediction
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.grid import Shape


class Predictor(Protocol):
    """Predicts the batches of one replica."""

    def predict(self, shape: Shape) -> ShapePrediction:
        """Latency of a batch of that shape; may take milliseconds."""
        ...

    def roofline(self, shapes: tuple[ShapePrediction, ...]) -> Roofline:
        """What it predicts from, with the predictions that it made."""
        ...


class ArithmeticPredictor:
    """Predicts from the replica's measured peak alone: the least that a batch can take."""

    def __init__(self, costs: CostTable, plan: Plan, peak_flops_per_s: float) -> None:
        self._costs = costs
        self._precision = plan.precision
        self._flops_per_s = peak_flops_per_s / plan.concurrency

    def predict(self, shape: Shape) -> ShapePrediction:
        """All FLOPs of the shape at the peak of its matmuls."""
        flops = self._costs.executed(shape)
        return ShapePrediction(shape, flops / self._flops_per_s, "compute", flops)

    def roofline(self, shapes: tuple[ShapePrediction, ...]) -> Roofline:
        """Arithmetic alone."""
        return Roofline(
            is_complete=False,
            flops_per_s={self._precision: self._flops_per_s},
            bytes_per_s=None,
            efficiency={},
            source="the peak that the worker measured at its start; memory traffic and overheads are left out, so that "
            "a batch cannot be faster: run `ridgeline devices --calibrate` for a prediction that has them",
            shapes=shapes,
        )


def make_predictor(costs: CostTable, plan: Plan, peak_flops_per_s: float | None) -> Predictor | None:
    """A predictor for a replica that runs the plan, None when nothing is known of its device.

    peak_flops_per_s: as the worker measured it on the replica's cores, None = not measured
    """
    if peak_flops_per_s is None:
        return None
    return ArithmeticPredictor(costs, plan, peak_flops_per_s)
