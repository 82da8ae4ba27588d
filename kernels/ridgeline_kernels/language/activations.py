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
def apply_activation(x, ACTIVATION: tl.constexpr):
    """The activation of x, fp32."""
    if ACTIVATION == "relu":
        return tl.maximum(x, 0.0)
    elif ACTIVATION == "gelu":
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        # 0.5 (1 + tanh y) = sigmoid 2y
        return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "silu":
        return x * tl.sigmoid(x)
    elif ACTIVATION == "tanh":
        return 2.0 * tl.sigmoid(2.0 * x) - 1.0
    elif ACTIVATION == "sigmoid":
        return tl.sigmoid(x)
    else:
        tl.static_assert(ACTIVATION == "none", "unknown activation")
        return x
