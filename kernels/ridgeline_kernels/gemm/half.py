"""Linear layers in fp16, bf16 and fp32, with what follows them computed on the fp32 accumulator.

y = activation(x Wᵀ + bias) + residual
"""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import FLOATS, check_choice, check_same_dtype, check_tensor
from ridgeline_kernels.gemm.dispatch import run_linear
from ridgeline_kernels.gemm.epilogue import Epilogue, finish_reference
from ridgeline_kernels.language.activations import ACTIVATIONS
from ridgeline_kernels.numerics import compute_dtype
from ridgeline_kernels.op import register


def linear_flops(tokens: int, in_size: int, out_size: int) -> int:
    """Multiply-adds × 2 of x [tokens, in] times W [out, in]ᵀ."""
    return 2 * tokens * in_size * out_size


def linear_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype | None,
) -> torch.Tensor:
    """`linear` in plain PyTorch."""
    dtype = compute_dtype(x)
    return finish_reference(x.to(dtype) @ weight.to(dtype).t(), _epilogue(x, bias, activation, residual, out_dtype))


def _linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype | None,
) -> torch.Tensor:
    if x.dtype == torch.float64:
        return linear_reference(x, weight, bias, activation, residual, out_dtype)
    return run_linear("linear", x, weight, _epilogue(x, bias, activation, residual, out_dtype))


def _shapes(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype | None,
) -> torch.Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], dtype=out_dtype or x.dtype)


def _epilogue(
    x: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype | None,
) -> Epilogue:
    return Epilogue(out_dtype or x.dtype, bias=bias, activation=activation, residual=residual)


_op = register("linear", reference=linear_reference, kernel=_linear, shapes=_shapes)


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """activation(x Wᵀ + bias) + residual, rounded once where our kernel computes it.

    x:          [tokens, in], fp16/bf16/fp32; rows may be strided. float64 goes to the reference, and allows it below
    weight:     [out, in], dtype of x: torch's layout; rows may be strided
    bias:       [out], any floating-point dtype
    activation: a name of `ACTIVATIONS`
    residual:   [tokens, out], fp16/bf16/fp32; rows may be strided
    out_dtype:  fp16/bf16/fp32, of the result, that of x by default
    returns [tokens, out]

    Raises ArgumentError.
    """
    check_tensor("x", x, ("tokens", "in"))
    check_tensor("weight", weight, ("out", x.shape[1]), like=x)
    check_same_dtype("weight", weight, "x", x)
    check_epilogue(x, weight, bias, activation, residual, x.dtype if out_dtype is None else out_dtype)
    out: torch.Tensor = _op(x, weight, bias, activation, residual, out_dtype)
    return out


def check_epilogue(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    out_dtype: torch.dtype,
) -> None:
    """Raise ArgumentError unless what follows the product suits x [tokens, in] and weight [out, in].

    float64 is for the references alone, which compute in it what is given in it.
    """
    dtypes = FLOATS if x.dtype == torch.float64 else FLOATS[:-1]
    if bias is not None:
        check_tensor("bias", bias, (weight.shape[0],), like=x)
    check_choice("activation", activation, tuple(ACTIVATIONS))
    if residual is not None:
        check_tensor("residual", residual, (x.shape[0], weight.shape[0]), dtypes=dtypes, like=x)
    check_choice("out_dtype", out_dtype, dtypes)
