"""Matrix products."""

from __future__ import annotations

import torch

from ridgeline_kernels.packed.standard_ops.registry import Building, Run, standard


@standard("MatMul")
def _matmul(building: Building) -> Run:
    return torch.matmul


@standard("Gemm")
def _gemm(building: Building) -> Run:
    alpha, beta = building["alpha"], building["beta"]
    flips_a, flips_b = bool(building["transA"]), bool(building["transB"])

    def gemm(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        a, b = a.t() if flips_a else a, b.t() if flips_b else b
        if c is not None and a.is_floating_point():
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        product = a @ b
        product = product if alpha == 1 else (product * alpha).to(a.dtype)
        return product if c is None else product + (c if beta == 1 else (c * beta).to(a.dtype))

    return gemm


@standard("Einsum")
def _einsum(building: Building) -> Run:
    equation = building["equation"]
    return lambda *operands: torch.einsum(equation, *operands)
