"""Ops that reduce axes, and their kin: the largest elements, running sums."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch

from ridgeline_kernels.packed.standard_ops.registry import Building, Run, ints, ints_or_none, standard

Axes = tuple[int, ...]


def _product(x: torch.Tensor, axes: Axes, keepdim: bool) -> torch.Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keepdim, dtype=x.dtype)
    return x


def _mean(x: torch.Tensor, axes: Axes, keepdim: bool) -> torch.Tensor:
    if x.is_floating_point():
        return torch.mean(x, axes, keepdim)
    count = prod(x.shape[axis] for axis in axes)
    return torch.div(torch.sum(x, axes, keepdim, dtype=x.dtype), count, rounding_mode="trunc")


def _l2(x: torch.Tensor, axes: Axes, keepdim: bool) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=keepdim)
    return norm


_REDUCTIONS: dict[str, Callable[[torch.Tensor, Axes, bool], torch.Tensor]] = {
    "ReduceL1": lambda x, axes, keepdim: torch.sum(x.abs(), axes, keepdim, dtype=x.dtype),
    "ReduceL2": _l2,
    "ReduceLogSumExp": lambda x, axes, keepdim: torch.logsumexp(x, axes, keepdim),
    "ReduceMax": lambda x, axes, keepdim: torch.amax(x, axes, keepdim),
    "ReduceMean": _mean,
    "ReduceMin": lambda x, axes, keepdim: torch.amin(x, axes, keepdim),
    "ReduceProd": _product,
    "ReduceSum": lambda x, axes, keepdim: torch.sum(x, axes, keepdim, dtype=x.dtype),
    "ReduceSumSquare": lambda x, axes, keepdim: torch.sum(x.square(), axes, keepdim, dtype=x.dtype),
}


@standard(*_REDUCTIONS, host=(1,))
def _reduce(building: Building) -> Run:
    function, keepdim = _REDUCTIONS[building.node.op_type], bool(building["keepdims"])
    axes, keeps_all = ints_or_none(building, 1), bool(building["noop_with_empty_axes"])

    def reduced(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        wanted = axes(given)
        if not wanted and keeps_all:
            return x
        wanted = wanted or tuple(range(x.dim()))
        return function(x, wanted, keepdim) if wanted else x

    return reduced


@standard("ArgMax", "ArgMin")
def _argument(building: Building) -> Run:
    function = torch.argmax if building.node.op_type == "ArgMax" else torch.argmin
    axis, keepdim, takes_last = building["axis"], bool(building["keepdims"]), bool(building["select_last_index"])

    def argument(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = function(x.flip(axis) if takes_last else x, dim=axis, keepdim=keepdim)
        return x.shape[axis] - 1 - found if takes_last else found

    return argument


@standard("TopK", host=(1,))
def _top(building: Building) -> Run:
    count, axis, largest = ints(building, 1), building["axis"], bool(building["largest"])

    def top(x: torch.Tensor, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values, indices = torch.topk(x, count(given)[0], dim=axis, largest=largest, sorted=True)
        return values, indices

    return top


@standard("CumSum", host=(1,))
def _running_sum(building: Building) -> Run:
    axes, is_exclusive, is_reverse = ints(building, 1), bool(building["exclusive"]), bool(building["reverse"])

    def running(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        axis = axes(given)[0]
        x = x.flip(axis) if is_reverse else x
        total = torch.cumsum(x, axis, dtype=x.dtype)
        if is_exclusive:
            first = torch.zeros_like(x.narrow(axis, 0, min(1, x.shape[axis])))
            total = torch.cat([first, total.narrow(axis, 0, max(0, x.shape[axis] - 1))], axis)
        return total.flip(axis) if is_reverse else total

    return running
