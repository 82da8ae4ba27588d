"""Whether a result is right: how far it is from the reference's, and how far it may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# Units in the last place that the order of a sum may cost; one step of a code.
_UNITS = {torch.float32: 64.0, torch.float64: 64.0, torch.float8_e4m3fn: 1.0, torch.float8_e5m2: 1.0}
_UNITS_OF_HALVES = 4.0


@dataclass(frozen=True)
class Agreement:
    """error: relative Frobenius norm of the difference, the worst over the outputs; excess: the largest difference of
    an element over what is allowed. Right where the excess is at most 1."""

    error: float
    excess: float

    @property
    def is_right(self) -> bool:
        """Whether every element is as near as allowed."""
        return self.excess <= 1.0


def tensors_of(outputs: Any) -> list[torch.Tensor]:
    """The tensors of whatever a call returned, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, tuple | list):
        return [tensor for output in outputs for tensor in tensors_of(output)]
    return []


def compare(outputs: Any, truth: Any, rough: Callable[[], Any] | None = None) -> Agreement:
    """Compare a call's outputs with the truth.

    rough: the same computed throughout in low precision; asked only where the outputs are further off than a few units
           in the last place of the largest element, and then twice its own error is allowed beside that.

    Codes (integers) may be one apart. Raises ValueError if the outputs differ in number or shape.
    """
    ours, true = tensors_of(outputs), tensors_of(truth)
    shapes, expected = [tuple(each.shape) for each in ours], [tuple(each.shape) for each in true]
    if shapes != expected:
        raise ValueError(f"the outputs have shapes {shapes}, the reference's {expected}")
    agreement = _compare(ours, true, [0.0] * len(ours))
    if agreement.is_right or rough is None:
        return agreement
    own = [_largest(one, other) for one, other in zip(tensors_of(rough()), true, strict=True)]
    return _compare(ours, true, [error if error < float("inf") else 0.0 for error in own])


def _compare(ours: list[torch.Tensor], true: list[torch.Tensor], own: list[float]) -> Agreement:
    error = excess = 0.0
    for one, other, own_error in zip(ours, true, own, strict=True):
        if not one.numel():
            continue
        largest = _largest(one, other)
        allowed = 2 * own_error + _unit(one.dtype) * max(float(_real(other).abs().max()), 1e-30)
        if not one.is_floating_point():
            allowed = max(2 * own_error, 1.0)
        if not largest < float("inf"):
            return Agreement(float("inf"), float("inf"))
        norm = float(torch.linalg.vector_norm(_real(other)))
        error = max(error, float(torch.linalg.vector_norm(_real(one) - _real(other))) / max(norm, 1e-30))
        excess = max(excess, largest / allowed)
    return Agreement(error, excess)


def _unit(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps * _UNITS.get(dtype, _UNITS_OF_HALVES) if dtype.is_floating_point else 0.0


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _largest(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((_real(one) - _real(other)).abs().max()) if one.numel() else 0.0
