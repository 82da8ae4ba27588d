"""FLOPs per element of what is no matmul.

As google-research/electra's flops_computation.py counts them: a norm 5 (sum, square and sum, scale, bias), softmax 5
(max, subtract, exp, sum, divide), GELU 8 (its tanh form), bias and residual 1 each. A table lookup is a copy: 0.
"""

from __future__ import annotations

from collections.abc import Mapping

LAYER_NORM = 5
RMS_NORM = 4  # no mean to subtract
SOFTMAX = 5
ROTARY = 3  # two multiplications and an addition
SOFTCAP = 3  # divide, tanh, multiply
_GELU = 8
_ACTIVATIONS: Mapping[str, int] = {
    "relu": 1,
    "relu2": 2,
    "relu_squared": 2,
    "tanh": 1,
    "sigmoid": 3,
    "silu": 4,
    "swish": 4,
    "swiglu": 4,
    "quick_gelu": 5,
    "gelu_sigmoid": 5,
}


def activation_flops(name: str) -> int:
    """FLOPs per element of an activation function; one that is not known counts as GELU."""
    return _ACTIVATIONS.get(name.lower(), _GELU)


def norm_flops(parameters: int) -> int:
    """FLOPs per element of a norm that holds so many weights per element."""
    return LAYER_NORM if parameters == 2 else RMS_NORM
