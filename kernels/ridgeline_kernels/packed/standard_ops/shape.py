"""Ops about shapes, and ops whose outputs are made from numbers on the host alone."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ridgeline_kernels.packed.standard_ops.registry import Building, Run, ints, standard
from ridgeline_kernels.packed.tensors import dtype_of


@standard("Shape")
def _shape(building: Building) -> Run:
    start, end = building["start"], building["end"]
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


@standard("Size")
def _size(building: Building) -> Run:
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@standard("ConstantOfShape", host=(0,))
def _constant_of_shape(building: Building) -> Run:
    sizes, device, value = ints(building, 0), building.device, building["value"]
    fill, dtype = (0.0, torch.float32) if value is None else (value.item(), value.dtype)
    return lambda given: torch.full(sizes(given), fill, dtype=dtype, device=device)


@standard("Range", host=(0, 1, 2))
def _range(building: Building) -> Run:
    device = building.device
    first_of, last_of, step_of = (_number(building, operand) for operand in (0, 1, 2))

    def arange(start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        first, last, step = first_of(start), last_of(limit), step_of(delta)
        # An empty range is no error in ONNX.
        last = max(first, last) if step > 0 else min(first, last)
        return torch.arange(first, last, step, dtype=start.dtype, device=device)

    return arange


def _number(building: Building, operand: int) -> Callable[[torch.Tensor], int | float]:
    known = building.constant(operand)
    if known is None:
        return torch.Tensor.item
    fixed = known.item()
    return lambda value: fixed


@standard("EyeLike")
def _eye_like(building: Building) -> Run:
    offset = building["k"]
    dtype = None if building["dtype"] is None else dtype_of(building["dtype"], str(building.node))

    def eye(x: torch.Tensor) -> torch.Tensor:
        return torch.ones(x.shape, dtype=dtype or x.dtype, device=x.device).triu(offset).tril(offset)

    return eye
