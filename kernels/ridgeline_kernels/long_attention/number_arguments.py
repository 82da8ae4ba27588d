"""Checks of the numbers that attention over long inputs takes."""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import check_range
from ridgeline_kernels.errors import ArgumentError

# Scores times any of these, and what stands for a hidden score, are still fp32 numbers apart from 0 and infinity.
_SMALLEST_SCALE, _LARGEST_SCALE = 1e-20, 1e8


def checked_scale(scale: float | None, head_dim: int) -> float:
    """The scale of scores, head_dim ** -0.5 by default.

    Raises ArgumentError unless it is above 0 and fp32 has room for it.
    """
    factor = head_dim**-0.5 if scale is None else float(scale)
    if not _SMALLEST_SCALE <= factor <= _LARGEST_SCALE:
        raise ArgumentError(f"scale is {scale}; it must be above 0: from {_SMALLEST_SCALE} to {_LARGEST_SCALE}")
    return factor


def check_count(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise ArgumentError unless `value` is a whole number with low ≤ value (≤ high)."""
    if not isinstance(value, (int, torch.SymInt)):
        raise ArgumentError(f"{name} is {value!r}; it must be a whole number")
    check_range(name, value, low, high)
