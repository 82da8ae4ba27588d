"""The faster of two ways to a linear: our kernel, or cuBLAS through torch followed by our epilogue.

Launch parameters say which (`backend`), by shape class. Results agree up to rounding: torch's call rounds the product
to bf16 before an epilogue of ours, our kernel rounds once. In fp16 such a product may be infinite where the result is
not, and is ours.
"""

from __future__ import annotations

import torch

from ridgeline_kernels.gemm.epilogue import Epilogue, finish
from ridgeline_kernels.gemm.launcher import launch_linear, parameters_of


def run_linear(op: str, x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`epilogue` of x Wᵀ: [tokens, out], by the backend that the op's launch parameters name.

    torch is passed over where its call does not take the shape or dtype.
    """
    parameters = parameters_of(op, x, weight, epilogue)
    if parameters["backend"] == "torch":
        out = _TORCH[x.dtype](x, weight, epilogue)
        if out is not None:
            return out
    return launch_linear(x, weight, epilogue, parameters)


def _float_by_torch(x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> torch.Tensor | None:
    if epilogue.x_scale is not None or epilogue.out_dtype != x.dtype:
        return None
    if x.dtype == torch.float16 and epilogue.bias is not None and epilogue.bias.dtype != torch.float16:
        return None
    bias = None if epilogue.bias is None else epilogue.bias.to(x.dtype)
    if epilogue.is_plain:
        return torch.nn.functional.linear(x, weight, bias)
    # cuBLASLt's own epilogues; its GELU is the tanh one. torch's CPU takes the exact one for it.
    if x.is_cuda and bias is not None and epilogue.residual is None and epilogue.activation in ("relu", "gelu_tanh"):
        return torch._addmm_activation(bias, x, weight.t(), use_gelu=epilogue.activation == "gelu_tanh")
    if x.dtype == torch.float16:
        return None
    return finish(torch.mm(x, weight.t()).unsqueeze(0), epilogue)


def _int8_by_torch(x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> torch.Tensor | None:
    # What cuBLAS asks for: more than 16 rows, the other sizes multiples of 8.
    if x.shape[0] <= 16 or x.shape[1] % 8 or weight.shape[0] % 8 or not _is_dense(x, weight):
        return None
    return finish(torch._int_mm(x, weight.t()).unsqueeze(0), epilogue)


def _fp8_by_torch(x: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue) -> torch.Tensor | None:
    if not x.shape[0] or x.shape[1] % 16 or weight.shape[0] % 16 or not _is_dense(x, weight):
        return None
    one = torch.ones((), dtype=torch.float32, device=x.device)
    product = torch._scaled_mm(x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.float32, use_fast_accum=False)
    return finish(product.unsqueeze(0), epilogue)


def _is_dense(*matrices: torch.Tensor) -> bool:
    return all(matrix.is_contiguous() for matrix in matrices)


_TORCH = {
    torch.float16: _float_by_torch,
    torch.bfloat16: _float_by_torch,
    torch.float32: _float_by_torch,
    torch.int8: _int8_by_torch,
    torch.float8_e4m3fn: _fp8_by_torch,
}
