"""Efficiencies that explain measured runs.

Minimizes the squared logarithm of predicted over measured, so that short runs count as much as long ones. By the method
of Levenberg and Marquardt: damped Gauss-Newton steps over the logarithms of the parameters, which keeps them positive.
Shares of a peak cannot pass 1. A weak pull towards the starting values decides what the runs leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ridgeline_estimate.errors import EstimateError
from ridgeline_estimate.hardware import Device
from ridgeline_estimate.op import Op
from ridgeline_estimate.roofline import Efficiency, work_of

Float64Array = npt.NDArray[np.float64]

# Where the search starts, between which values it stays; in the order of `fit` and `_Table.seconds`.
_PARAMETERS: dict[str, tuple[float, float, float]] = {
    "matmul": (0.7, 1e-3, 1.0),
    "attention": (0.5, 1e-3, 1.0),
    "elementwise": (0.05, 1e-4, 1.0),
    "memory": (0.5, 1e-2, 1.0),
    "op_s": (1e-6, 1e-9, 1e-3),
    "call_s": (3e-5, 1e-7, 1e-1),
    "product_s": (5e-7, 1e-10, 1e-3),
    "small_tokens": (10.0, 0.1, 1e3),
}
_PULL = 0.03
_DISTURBED = 0.2
_STEPS = 100
_LONGEST_STEP = 1.0  # a factor of e
_DIFFERENCE = 1e-5
_CONVERGED = 1e-9


def fit(runs: Sequence[tuple[Sequence[Op], float]], device: Device, source: str) -> Efficiency:
    """The efficiency that explains measured runs best: (operations, measured seconds) of each.

    source: which runs these are, for people
    Raises EstimateError when there are fewer runs than parameters, or a run took no time.
    """
    if len(runs) < len(_PARAMETERS):
        raise EstimateError(f"{len(runs)} runs do not decide {len(_PARAMETERS)} parameters; measure more of them")
    measured = np.array([seconds for _, seconds in runs])
    if not (np.isfinite(measured).all() and measured.min() > 0):
        raise EstimateError("every run needs a measured time above 0 seconds; measure them again")
    table = _Table.of(runs, device)
    start, least, most = (np.log(column) for column in np.array(list(_PARAMETERS.values())).T)
    found = _minimize(lambda point: _residuals(table, point, measured, start), start, least, most)
    matmul, attention, elementwise, memory, op_s, call_s, product_s, small_tokens = map(float, np.exp(found))
    return Efficiency(
        matmul=matmul,
        attention=attention,
        elementwise=elementwise,
        memory=memory,
        op_s=op_s,
        call_s=call_s,
        product_s=product_s,
        small_tokens=small_tokens,
        source=source,
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """The work of all operations of all runs, a column each; `run` is the number of the run of each."""

    run: npt.NDArray[np.int64]
    matmul_s: Float64Array
    attention_s: Float64Array
    other_s: Float64Array
    memory_s: Float64Array
    rows: Float64Array
    products: Float64Array
    launches: Float64Array

    @classmethod
    def of(cls, runs: Sequence[tuple[Sequence[Op], float]], device: Device) -> _Table:
        works = [
            (number, work)
            for number, (ops, _) in enumerate(runs)
            for work in work_of([op for op in ops if not op.is_constant], device)
        ]
        names = ("matmul_s", "attention_s", "other_s", "memory_s", "rows", "products", "launches")
        columns = {name: np.array([getattr(work, name) for _, work in works], dtype=np.float64) for name in names}
        return cls(run=np.array([number for number, _ in works], dtype=np.int64), **columns)

    def seconds(self, parameters: Float64Array, runs: int) -> Float64Array:
        """Predicted seconds of each run; the same sum as `roofline.predict`."""
        matmul, attention, elementwise, memory, op_s, call_s, product_s, small_tokens = parameters
        compute_s = (
            self.matmul_s * (1.0 + small_tokens / self.rows) / matmul
            + self.attention_s / attention
            + self.products * product_s
            + self.other_s / elementwise
        )
        each = np.maximum(compute_s, self.memory_s / memory) + self.launches * op_s
        total: Float64Array = np.bincount(self.run, each, runs) + call_s
        return total


def _residuals(table: _Table, point: Float64Array, measured: Float64Array, start: Float64Array) -> Float64Array:
    predicted = table.seconds(np.exp(point), len(measured))
    errors = np.log(predicted / measured)
    # Pseudo-Huber: a run that something disturbed counts by its distance, not by the square of it.
    damped = np.sign(errors) * _DISTURBED * np.sqrt(2.0 * (np.sqrt(1.0 + (errors / _DISTURBED) ** 2) - 1.0))
    return np.concatenate([damped, _PULL * (point - start)])


def _minimize(
    residuals: Callable[[Float64Array], Float64Array], start: Float64Array, least: Float64Array, most: Float64Array
) -> Float64Array:
    """The point of least squared residuals within the bounds that damped steps lead to."""
    point: Float64Array = start
    damping = 1e-2
    values = residuals(point)
    for _ in range(_STEPS):
        slopes = np.stack(
            [(residuals(point + _DIFFERENCE * unit) - values) / _DIFFERENCE for unit in np.eye(len(point))], axis=1
        )
        normal, gradient = slopes.T @ slopes, slopes.T @ values
        cost = values @ values
        while damping < 1e12:
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -gradient)
            tried: Float64Array = np.clip(point + np.clip(step, -_LONGEST_STEP, _LONGEST_STEP), least, most)
            better = residuals(tried)
            if better @ better < cost:
                break
            damping *= 4
        else:
            return point
        point, values, damping = tried, better, damping / 5
        if cost - better @ better < _CONVERGED * cost:
            return point
    return point
