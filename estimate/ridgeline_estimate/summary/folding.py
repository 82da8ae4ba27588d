"""The rows of a layer table: layers that are alike are one row, with their operations under it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ridgeline_estimate.op import PARTS, Op, Sums, add_up, add_up_by
from ridgeline_estimate.summary.places import config_blocks, graph_blocks, local_name

Seconds = Mapping[int, float]
Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    title:   such as "layers 0–11 (×12)", or the operation's name in its layer
    indent:  1 for an operation of the layers above it
    layers:  numbers of the layers that it stands for, empty outside of layers
    output:  shape of what one of them gives
    sums:    over all the layers it stands for
    seconds: predicted for them, None without a device
    """

    title: str
    indent: int
    layers: tuple[int, ...]
    output: tuple[int, ...]
    sums: Sums
    seconds: float | None = None


def layer_rows(ops: Sequence[Op], seconds: Seconds | None = None, *, by_part: bool = False) -> list[Row]:
    """Rows in the order in which the model runs; those without indent add up to the model.

    seconds: predicted time of each operation by its index in ops, None without a device
    by_part: operations are shown together with those of the same part, as a graph's nodes are too many
    """
    blocks = graph_blocks(ops) if by_part else config_blocks(ops)
    rows: list[Row] = []
    for block, members in _grouped(range(len(ops)), blocks.__getitem__).items():
        if not block.has_layers:
            rows += _rows_by_name(ops, members, seconds, 0, (), by_part)
            continue
        by_layer = _grouped(members, lambda index: ops[index].layer or 0)
        for layers in _grouped(by_layer, partial(_signature, ops, by_layer, by_part)).values():
            inside = [index for layer in layers for index in by_layer[layer]]
            numbers = tuple(sorted(layers))
            rows.append(_row(block.title(numbers), 0, numbers, ops, inside, seconds))
            rows += _rows_by_name(ops, inside, seconds, 1, numbers, by_part)
    return rows


def part_sums(ops: Sequence[Op]) -> dict[str, Sums]:
    """Sums by part, in the order of PARTS; parts that the model has not are left out."""
    found = add_up_by(ops, lambda op: op.part)
    return {part: found[part] for part in PARTS if part in found}


def _rows_by_name(
    ops: Sequence[Op],
    indices: Sequence[int],
    seconds: Seconds | None,
    indent: int,
    layers: tuple[int, ...],
    by_part: bool,
) -> list[Row]:
    groups = _grouped(indices, lambda index: ops[index].part if by_part else local_name(ops[index]))
    return [
        _row(name.replace("_", " ") if by_part else name, indent, layers, ops, group, seconds)
        for name, group in groups.items()
    ]


def _row(
    title: str, indent: int, layers: tuple[int, ...], ops: Sequence[Op], indices: Sequence[int], seconds: Seconds | None
) -> Row:
    members = [ops[index] for index in indices]
    time = None if seconds is None else sum(seconds[index] for index in indices)
    return Row(title, indent, layers, members[-1].output, add_up(members), time)


def _signature(ops: Sequence[Op], by_layer: Mapping[int, Sequence[int]], by_part: bool, layer: int) -> Hashable:
    """What layers must share to be alike.

    Parameters may differ, as ALBERT's layers share one set, and so may the residuals that a norm adds up.
    """
    members = [ops[index] for index in by_layer[layer]]
    if by_part:
        return tuple((part, sums.matmul_flops, sums.skipped_flops) for part, sums in part_sums(members).items())
    return tuple((local_name(op), op.part, op.matmul_flops, op.skipped_flops, op.dtype, op.output) for op in members)


def _grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by their key, in order of first appearance."""
    groups: defaultdict[Key, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return dict(groups)
