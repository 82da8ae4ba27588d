"""What the roofline says of a replica's batches: from a calibration of this machine, else the peak alone."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Protocol

from ridgeline_estimate.architecture import Architecture
from ridgeline_estimate.calibrated import Calibration, Host, find_calibration, read_calibrations
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.precision import Precision, find_precision
from ridgeline_estimate.roofline import predict
from ridgeline_estimate.workload import Workload
from ridgeline_export.bundle import Bundle
from ridgeline_server.engine.cost import CostTable, bundle_architecture
from ridgeline_server.request import Roofline, ShapePrediction
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.grid import Shape
from ridgeline_server.runtimes.machine import this_machine

log = logging.getLogger(__name__)

_DYNAMIC = "int8-dynamic"
_CALIBRATE = "run `ridgeline devices --calibrate` for a prediction that has them"
_PACKED = "a packed batch is predicted from its own lengths, a bucket as filled with texts of typical length"


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
        self._grid = plan.grid
        self._flops_per_s = peak_flops_per_s * plan.share

    def predict(self, shape: Shape) -> ShapePrediction:
        """All FLOPs of the shape at the peak of its matmuls; of a bucket of tokens, filled with typical sequences."""
        grid, costs = self._grid, self._costs
        flops = costs.sequences(grid.full_lengths(shape)) if grid.is_packed else costs.executed(shape)
        return ShapePrediction(shape, flops / self._flops_per_s, "compute", flops)

    def roofline(self, shapes: tuple[ShapePrediction, ...]) -> Roofline:
        """Arithmetic alone."""
        return Roofline(
            is_complete=False,
            flops_per_s={self._precision: self._flops_per_s},
            bytes_per_s=None,
            efficiency={},
            source="the peak that the worker measured at its start; memory traffic and overheads are left out, so that "
            f"a batch cannot be faster: {_PACKED if self._grid.is_packed else _CALIBRATE}",
            shapes=shapes,
        )


class CalibratedPredictor:
    """Predicts from peaks, bandwidths and efficiencies that were measured on this machine, operation by operation."""

    def __init__(
        self, costs: CostTable, architecture: Architecture, precision: Precision, calibration: Calibration
    ) -> None:
        self._costs = costs
        self._architecture = architecture
        self._precision = precision
        self._calibration = calibration

    def predict(self, shape: Shape) -> ShapePrediction:
        """The sum over the model's operations."""
        rows, length = shape
        ops = model_ops(self._architecture, Workload(rows, length), self._precision)
        prediction = predict(ops, self._calibration.device, self._calibration.efficiency)
        return ShapePrediction(shape, prediction.seconds, prediction.bound, self._costs.executed(shape))

    def roofline(self, shapes: tuple[ShapePrediction, ...]) -> Roofline:
        """All that was measured."""
        calibration = self._calibration
        device, efficiency = calibration.device, asdict(calibration.efficiency)
        return Roofline(
            is_complete=True,
            flops_per_s={dtype: peak.flops_per_s for dtype, peak in device.peaks.items()},
            bytes_per_s=None if device.bandwidth is None else device.bandwidth.bytes_per_s,
            efficiency={name: float(value) for name, value in efficiency.items() if name != "source"},
            source=f"`ridgeline devices --calibrate` here: {calibration.runtime} in {calibration.precision}, "
            f"{calibration.threads} threads, {calibration.concurrency} batches at once; {efficiency['source']}; "
            f"median error there {calibration.median_error:.0%}, 90th percentile {calibration.p90_error:.0%}",
            shapes=shapes,
        )


def make_predictor(costs: CostTable, bundle: Bundle, plan: Plan, peak_flops_per_s: float | None) -> Predictor | None:
    """A predictor for a replica that runs the plan, None when nothing is known of its device. Takes milliseconds.

    peak_flops_per_s: as the worker measured it on the replica's cores, None = not measured
    """
    try:
        calibration = _find_calibration(plan)
        if calibration is not None:
            predictor = CalibratedPredictor(costs, bundle_architecture(bundle), _precision(plan), calibration)
            predictor.predict(plan.grid.shapes[0])
            return predictor
    except (OSError, ValueError, ArithmeticError, LookupError, EstimateError) as error:
        log.warning("batches of %s are predicted from the peak alone: %s", bundle.path, error)
    return None if peak_flops_per_s is None else ArithmeticPredictor(costs, plan, peak_flops_per_s)


def _find_calibration(plan: Plan) -> Calibration | None:
    """The calibration of just this way to run, None when there is none."""
    if plan.grid.is_packed or plan.device_share != 1.0 or (plan.precision == "int8" and plan.float_precision != "fp32"):
        return None
    found = read_calibrations()
    if not found:
        return None
    machine = this_machine()
    here = Host(machine.cpu, machine.cores, machine.gpus, machine.packages)
    is_gpu = plan.device.kind == "cuda"
    return find_calibration(
        (each for each in found if each.host == here),
        _DYNAMIC if plan.variant == _DYNAMIC else plan.precision,
        runtime=plan.runtime,
        kind=plan.device.kind,
        name=machine.gpus[plan.device.index] if is_gpu else None,
        threads=None if is_gpu else plan.threads,  # a GPU's batches do not depend on the threads beside it
        concurrency=plan.concurrency,
    )


def _precision(plan: Plan) -> Precision:
    precision = find_precision(plan.precision)
    return replace(precision, activations=plan.float_precision) if plan.precision == "int8" else precision
