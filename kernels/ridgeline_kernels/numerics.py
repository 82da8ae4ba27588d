"""The dtype that references compute in, and that cuBLAS adds up in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_override: ContextVar[torch.dtype | None] = ContextVar("compute_dtype", default=None)


def compute_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The dtype that a reference computes in: float64 for float64, float32 for everything else."""
    override = _override.get()
    if override is not None:
        return override
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


@contextmanager
def computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Let references compute in `dtype` throughout, as PyTorch's modules do in low precision.

    Tests measure with it the error that a plain low-precision implementation makes.
    """
    token = _override.set(dtype)
    try:
        yield
    finally:
        _override.reset(token)


def sum_in_float32() -> None:
    """Let cuBLAS add up products of fp16 and bf16 in float32 to the end, in this whole process.

    By default PyTorch lets it round the parts of a sum that it splits.
    """
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
