"""Ops that pick elements by index, or put them there.

An index that is out of range is an error on the CPU. On a GPU, where looking would mean waiting, it is the nearest one;
so is, anywhere, the first after the last: an empty sequence at the end starts there.
"""

from __future__ import annotations

import torch

from ridgeline_kernels.arguments import shows_values
from ridgeline_kernels.errors import ArgumentError, UnsupportedOpError
from ridgeline_kernels.packed.standard_ops.registry import Building, Run, ints, standard


def _inside(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Indices from 0 to size - 1, int64, of such that may count from the end."""
    if shows_values(indices) and indices.numel():
        low, high = int(indices.min()), int(indices.max())
        if low < -size or high > size:
            raise ArgumentError(f"an index is {low if low < -size else high}; allowed are {-size} to {size - 1}")
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices).clamp(0, max(size - 1, 0))


@standard("Gather")
def _gather(building: Building) -> Run:
    axis, known = building["axis"], building.constant(1)
    if known is not None and known.dim() == 0:
        index = int(known)
        return lambda x, indices: x.select(axis, index)
    # Constants are looked at once: no clamping at run time.
    is_plain = known is not None and bool(known.numel()) and int(known.min()) >= 0

    def gather(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        at = axis % x.dim()
        wanted = indices if is_plain else _inside(indices, x.shape[at])
        picked = x.index_select(at, wanted.reshape(-1))
        return picked.view(*x.shape[:at], *indices.shape, *x.shape[at + 1 :])

    return gather


@standard("GatherElements")
def _gather_elements(building: Building) -> Run:
    axis = building["axis"]
    return lambda x, indices: torch.gather(x, axis, _inside(indices, x.shape[axis]))


@standard("GatherND")
def _gather_nd(building: Building) -> Run:
    batch = building["batch_dims"]

    def gather(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        picked: torch.Tensor = torch.ops.aten.index.Tensor(x, _coordinates(x, indices, batch))
        return picked

    return gather


def _coordinates(x: torch.Tensor, indices: torch.Tensor, batch: int) -> tuple[torch.Tensor, ...]:
    """The index of each axis that rows of `indices` point along; of the first `batch` axes, their own."""
    leading: list[torch.Tensor] = []
    for axis in range(batch):
        shape = [1] * (indices.dim() - 1)
        shape[axis] = x.shape[axis]
        leading.append(torch.arange(x.shape[axis], device=x.device).view(shape))
    pointed = (_inside(indices.select(-1, at), x.shape[batch + at]) for at in range(indices.shape[-1]))
    return (*leading, *pointed)


@standard("ScatterND")
def _scatter_nd(building: Building) -> Run:
    is_added = _is_added(building)

    def scatter(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        return x.index_put(_coordinates(x, indices, 0), updates, accumulate=is_added)

    return scatter


@standard("ScatterElements")
def _scatter_elements(building: Building) -> Run:
    axis, is_added = building["axis"], _is_added(building)

    def scatter(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        wanted = _inside(indices, x.shape[axis])
        return x.scatter_add(axis, wanted, updates) if is_added else x.scatter(axis, wanted, updates)

    return scatter


def _is_added(building: Building) -> bool:
    if building["reduction"] not in ("none", "add"):
        raise UnsupportedOpError(
            f"{building.node} has the reduction {building['reduction']!r}; the executor has none and add"
        )
    return bool(building["reduction"] == "add")


@standard("OneHot", host=(1,))
def _one_hot(building: Building) -> Run:
    axis, depth = building["axis"], ints(building, 1)

    def one_hot(indices: torch.Tensor, given: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        (size,) = depth(given)
        # An index out of range has no hot element: nothing is clamped.
        at = torch.where(indices < 0, indices + size, indices).long()
        is_hot = at.unsqueeze(-1) == torch.arange(size, device=at.device)
        return torch.where(is_hot.movedim(-1, axis), values.select(0, 1), values.select(0, 0))

    return one_hot
