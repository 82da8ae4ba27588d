"""Ops that move elements and compute nothing. Where torch has a view, the result is one."""

from __future__ import annotations

import torch

from ridgeline_kernels.errors import InvalidGraphError, UnsupportedOpError
from ridgeline_kernels.packed.standard_ops.registry import Building, Run, ints, ints_or_none, standard


@standard("Reshape", host=(1,))
def _reshape(building: Building) -> Run:
    sizes, keeps_zeros = ints(building, 1), bool(building["allowzero"])

    def reshape(x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        wanted = sizes(shape)
        if not keeps_zeros and 0 in wanted:
            wanted = tuple(size or x.shape[axis] for axis, size in enumerate(wanted))
        return x.reshape(wanted)

    return reshape


@standard("Flatten")
def _flatten(building: Building) -> Run:
    axis = building["axis"]

    def flatten(x: torch.Tensor) -> torch.Tensor:
        rows = x.shape[: axis if axis >= 0 else x.dim() + axis].numel()
        return x.reshape(rows, -1) if rows else x.reshape(0, x.shape[axis:].numel())

    return flatten


@standard("Transpose")
def _transpose(building: Building) -> Run:
    order = building["perm"]
    if order is None:
        return lambda x: x.permute(tuple(reversed(range(x.dim()))))
    return lambda x: x.permute(order)


@standard("Concat")
def _concat(building: Building) -> Run:
    axis = building["axis"]
    return lambda *parts: torch.cat(parts, dim=axis)


@standard("Split", host=(1,))
def _split(building: Building) -> Run:
    axis, sizes = building["axis"], ints_or_none(building, 1)
    parts = len(building.node.outputs)
    if building["num_outputs"] not in (None, parts):
        raise InvalidGraphError(f"{building.node} has num_outputs {building['num_outputs']} and {parts} outputs")

    def split(x: torch.Tensor, given: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        wanted = sizes(given)
        if wanted is None:
            # The last part is smaller where the size is no multiple.
            each = -(-x.shape[axis] // parts)
            wanted = (*[each] * (parts - 1), x.shape[axis] - each * (parts - 1))
        return torch.split(x, list(wanted), dim=axis)

    return split


@standard("Slice", host=(1, 2, 3, 4))
def _slice(building: Building) -> Run:
    starts_of, ends_of = ints(building, 1), ints(building, 2)
    axes_of, steps_of = ints_or_none(building, 3), ints_or_none(building, 4)

    def take(
        x: torch.Tensor,
        starts: torch.Tensor,
        ends: torch.Tensor,
        axes: torch.Tensor | None = None,
        steps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        first = starts_of(starts)
        along, each = axes_of(axes) or range(len(first)), steps_of(steps) or [1] * len(first)
        for start, end, axis, step in zip(first, ends_of(ends), along, each, strict=True):
            x = _slice_axis(x, axis, slice(start, end, step))
        return x

    return take


def _slice_axis(x: torch.Tensor, axis: int, wanted: slice) -> torch.Tensor:
    indices = range(*wanted.indices(x.shape[axis]))
    if not indices:
        return x.narrow(axis, 0, 0)
    low, high = min(indices[0], indices[-1]), max(indices[0], indices[-1])
    taken: torch.Tensor = torch.ops.aten.slice.Tensor(x, axis, low, high + 1, abs(indices.step))
    return taken if indices.step > 0 else taken.flip(axis)


@standard("Squeeze", host=(1,))
def _squeeze(building: Building) -> Run:
    axes = ints_or_none(building, 1)

    def squeeze(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        wanted = axes(given)
        if wanted is None:
            return x.squeeze()
        for axis in wanted:
            if x.shape[axis] != 1:
                raise RuntimeError(f"axis {axis} of {list(x.shape)} cannot be squeezed: its size is not 1")
        return x.squeeze(wanted)

    return squeeze


@standard("Unsqueeze", host=(1,))
def _unsqueeze(building: Building) -> Run:
    axes = ints(building, 1)

    def unsqueeze(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        wanted = axes(given)
        rank = x.dim() + len(wanted)
        for axis in sorted(axis % rank for axis in wanted):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


@standard("Expand", host=(1,))
def _expand(building: Building) -> Run:
    sizes = ints(building, 1)

    def expand(x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, sizes(given)))

    return expand


@standard("Tile", host=(1,))
def _tile(building: Building) -> Run:
    repeats = ints(building, 1)
    return lambda x, given: x.repeat(repeats(given))


@standard("Pad", host=(1, 2, 3))
def _pad(building: Building) -> Run:
    if building["mode"] != "constant":
        raise UnsupportedOpError(f"{building.node} pads by {building['mode']!r}; the executor pads with a constant")
    pads, fill, axes = ints(building, 1), building.constant(2), ints_or_none(building, 3)
    known = None if fill is None else fill.item()

    def pad(
        x: torch.Tensor, given: torch.Tensor, value: torch.Tensor | None = None, which: torch.Tensor | None = None
    ) -> torch.Tensor:
        amounts, padded = pads(given), axes(which) or range(x.dim())
        number = known if known is not None else 0 if value is None else value.item()
        # torch begins with the last axis.
        backwards = [0] * (2 * x.dim())
        for index, axis in enumerate(padded):
            first = 2 * (x.dim() - 1 - axis % x.dim())
            backwards[first], backwards[first + 1] = amounts[index], amounts[index + len(padded)]
        return torch.constant_pad_nd(x, backwards, number)

    return pad


@standard("Trilu", host=(1,))
def _triangle(building: Building) -> Run:
    offset, function = ints_or_none(building, 1), torch.triu if building["upper"] else torch.tril

    def triangle(x: torch.Tensor, given: torch.Tensor | None = None) -> torch.Tensor:
        diagonal = offset(given)
        return function(x, diagonal[0] if diagonal else 0)

    return triangle
