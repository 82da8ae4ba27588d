"""Ops that take their operands element by element, broadcast against each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import torch
import torch.nn.functional as F

from ridgeline_kernels.errors import UnsupportedOpError
from ridgeline_kernels.packed.standard_ops.registry import Building, Run, standard
from ridgeline_kernels.packed.tensors import dtype_of

_FP8_MAX = 448.0

_PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Add": torch.add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseNot": torch.bitwise_not,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": F.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}


@standard(*_PLAIN)
def _plain(building: Building) -> Run:
    return _PLAIN[building.node.op_type]


_FOLDED: dict[str, Callable[..., torch.Tensor]] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}


@standard(*_FOLDED)
def _folded(building: Building) -> Run:
    function = _FOLDED[building.node.op_type]
    return lambda *operands: reduce(function, operands)


@standard("Mean")
def _mean(building: Building) -> Run:
    return lambda *operands: reduce(torch.add, operands) / len(operands)


@standard("Div")
def _divide(building: Building) -> Run:
    # Of integers the quotient is cut towards zero, as in C.
    return lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


@standard("Mod")
def _modulo(building: Building) -> Run:
    return torch.fmod if building["fmod"] else torch.remainder


@standard("Pow")
def _power(building: Building) -> Run:
    # The result has the base's type, whatever the exponent's is.
    return lambda base, exponent: torch.pow(base, exponent).to(base.dtype)


@standard("Clip")
def _clip(building: Building) -> Run:
    def clip(x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None) -> torch.Tensor:
        return x if low is None and high is None else torch.clamp(x, low, high)

    return clip


@standard("Gelu")
def _gelu(building: Building) -> Run:
    return partial(F.gelu, approximate=building["approximate"])


@standard("Elu", "Celu", "ThresholdedRelu", "LeakyRelu", "HardSigmoid", "Selu", "Shrink")
def _shaped(building: Building) -> Run:
    kind = building.node.op_type
    if kind == "Shrink":
        bias, limit = building["bias"], building["lambd"]
        return lambda x: torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))
    alpha = building["alpha"]
    if kind == "Elu":
        return lambda x: torch.where(x > 0, x, alpha * torch.expm1(x))
    if kind == "Celu":
        return partial(F.celu, alpha=alpha)
    if kind == "ThresholdedRelu":
        return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))
    if kind == "LeakyRelu":
        return partial(F.leaky_relu, negative_slope=alpha)
    if kind == "HardSigmoid":
        beta = building["beta"]
        return lambda x: torch.clamp(alpha * x + beta, 0, 1)
    gamma = building["gamma"]
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(x))


@standard("PRelu")
def _prelu(building: Building) -> Run:
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@standard("IsInf")
def _is_infinite(building: Building) -> Run:
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if building[name]]
    infinities = [sign * float("inf") for sign in signs]
    return lambda x: reduce(
        torch.logical_or, (x == value for value in infinities), torch.zeros_like(x, dtype=torch.bool)
    )


def _cast(x: torch.Tensor, dtype: torch.dtype, saturates: bool) -> torch.Tensor:
    if dtype == torch.float8_e4m3fn and saturates and x.dtype != dtype:
        x = x.clamp(-_FP8_MAX, _FP8_MAX)
    return x.to(dtype)


@standard("Cast")
def _cast_to(building: Building) -> Run:
    dtype, saturates = dtype_of(building["to"], str(building.node)), bool(building["saturate"])
    return lambda x: _cast(x, dtype, saturates)


@standard("CastLike")
def _cast_like(building: Building) -> Run:
    saturates = bool(building["saturate"])
    return lambda x, like: _cast(x, like.dtype, saturates)


@standard("Dropout")
def _dropout(building: Building) -> Run:
    if len(building.node.inputs) > 2 and building.node.inputs[2]:
        raise UnsupportedOpError(f"{building.node} is given training_mode; the executor is for inference: leave it out")
    return lambda x, *rate: (x, torch.ones_like(x, dtype=torch.bool))
