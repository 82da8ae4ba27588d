"""Activations in fp32, by name: the name is a constexpr of the kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
"""The names that `apply_activation` takes, with PyTorch's function of each. "gelu" is the exact one, by erf."""


@triton.jit
def _sigmoid(x):
    # exp2 flushes results under 2^-126 to 0, exp takes instructions to keep them.
    return 1.0 / (1.0 + tl.exp2(x * -1.4426950408889634))


@triton.jit
def tanh(x):
    """tanh of x: up to 0.625, where 1 - 2 / (1 + e^2x) loses the digits, the polynomial of Cephes' tanhf."""
    square = x * x
    polynomial = 2.06390887954e-2 + square * -5.70498872745e-3
    polynomial = -5.37397155531e-2 + square * polynomial
    polynomial = 1.33314422036e-1 + square * polynomial
    polynomial = -3.33332819422e-1 + square * polynomial
    # Of |x|: the quotient of a negative x would be over 1, and rounded twice as coarsely.
    large = 1.0 - 2.0 / (1.0 + tl.exp2(tl.abs(x) * 2.8853900817779268))
    return tl.where(tl.abs(x) < 0.625, x + x * square * polynomial, tl.where(x < 0, -large, large))


@triton.jit
def _gelu(x):
    """x Φ(x), Φ the normal distribution: as exact in fp32 as by erf, in half the instructions.

    Written max(x, 0) - |x| Φ(-|x|), with log2 Φ(-t) a polynomial: its minimax fit on 0 ≤ t ≤ 7 to 4e-8 in the result.
    Beyond, it keeps falling; t stops at 9, where |x| Φ(-|x|) is 1e-18.
    """
    t = tl.minimum(tl.abs(x), 9.0)
    log = 2.344711174373515e-05 + t * -1.4320009995572036e-06
    log = -0.00011524335423018783 + t * log
    log = -0.00029496534261852503 + t * log
    log = 0.007249466609209776 + t * log
    log = -0.05260825529694557 + t * log
    log = -0.45917776226997375 + t * log
    log = -1.151107907295227 + t * log
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) - t * tl.exp2(t * log - 1.0)


@triton.jit
def apply_activation(x, ACTIVATION: tl.constexpr):
    """The activation of x, fp32."""
    if ACTIVATION == "relu":
        return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif ACTIVATION == "gelu":
        return _gelu(x)
    elif ACTIVATION == "gelu_tanh":
        # 0.5 (1 + tanh y) = sigmoid 2y
        return x * _sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "silu":
        return x * _sigmoid(x)
    elif ACTIVATION == "tanh":
        return tanh(x)
    elif ACTIVATION == "sigmoid":
        return _sigmoid(x)
    else:
        tl.static_assert(ACTIVATION == "none", "unknown activation")
        return x
