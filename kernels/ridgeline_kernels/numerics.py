"""The dtype that references compute in."""

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
