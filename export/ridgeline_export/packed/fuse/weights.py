"""Weights made from weights: transposed, joined, cut. Each is made once, however many nodes ask for it."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ridgeline_export.packed.fuse.values import constant, producer

# Where the optimizer of torch's exporter notes which initializers a folded constant was made of.
_FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"
_NUMBERED = re.compile(r"val_\d+")


class Weights:
    """The initializers that fusion adds to a graph.

    A weight made twice of the same initializers is the same value, so layers that share weights go on sharing them.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[object, ...], ir.Value] = {}
        self._wanted: dict[ir.Value, str] = {}

    def transposed(self, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
        """[a, b] → [b, a]; the value of that content if there is one, so a tied or shared weight is stored once.

        bias: the one that goes with the weight, which tells its name where the exporter's says nothing
        """
        before = producer(weight, "Transpose")
        if before is not None and before.inputs[0] is not None:
            return before.inputs[0]
        key = ("transposed", weight)
        if key not in self._made:
            array = np.ascontiguousarray(_array(weight).T)
            content = ("content", array.shape, str(array.dtype), hashlib.blake2b(array.view(np.uint8).data).digest())
            twin = self._made.get(content) or self._table_like(array)
            self._made[key] = twin or self._new(array, _original_name(weight, bias), weight)
            self._made[content] = self._made[key]
        return self._kept(self._made[key])

    def joined(self, weights: Sequence[ir.Value | None], sizes: Sequence[int]) -> ir.Value | None:
        """Concatenated along axis 0, zeros of the given size where one is absent; None if all are."""
        present = [weight for weight in weights if weight is not None]
        if not present:
            return None
        key = ("joined", *weights, *sizes)
        if key not in self._made:
            like = _array(present[0])
            arrays = [
                np.zeros((size, *like.shape[1:]), like.dtype) if weight is None else _array(weight)
                for weight, size in zip(weights, sizes, strict=True)
            ]
            names = [self._wanted.get(weight, weight.name or "weight") for weight in present]
            self._made[key] = self._new(np.concatenate(arrays), joined_name(names), present[0])
        return self._kept(self._made[key])

    def flat(self, weight: ir.Value) -> ir.Value:
        """[1, …, n] → [n]"""
        array = _array(weight)
        if array.ndim == 1:
            return weight
        key = ("flat", weight)
        if key not in self._made:
            self._made[key] = self._new(array.reshape(-1), weight.name or "weight", weight)
        return self._kept(self._made[key])

    def rows_from(self, table: ir.Value, first: int) -> ir.Value:
        """table[first:]"""
        if first == 0:
            return table
        key = ("rows", table, first)
        if key not in self._made:
            self._made[key] = self._new(_array(table)[first:].copy(), f"{table.name}.from_{first}", table)
        return self._kept(self._made[key])

    def first_columns(self, table: ir.Value, columns: int) -> ir.Value:
        """table[..., :columns]"""
        key = ("columns", table, columns)
        if key not in self._made:
            array = np.ascontiguousarray(_array(table)[..., :columns])
            self._made[key] = self._new(array, f"{table.name}.half", table)
        return self._kept(self._made[key])

    def plus(self, table: ir.Value, row: ir.Value) -> ir.Value:
        """table + row, for a row of as many elements as a row of the table."""
        key = ("plus", table, row)
        if key not in self._made:
            self._made[key] = self._new(_array(table) + _array(row).reshape(-1), f"{table.name}+{row.name}", table)
        return self._kept(self._made[key])

    def settle_names(self) -> None:
        """Give each weight the name it is known by, now that what it was made of is swept away."""
        for value, wanted in self._wanted.items():
            if value.name in self._graph.initializers and value.name != wanted:
                value.name = self._free_name(wanted)

    def _kept(self, value: ir.Value) -> ir.Value:
        # A sweep between two uses drops initializers that nobody reads at that time.
        if value.name not in self._graph.initializers:
            self._graph.register_initializer(value)
        return value

    def _table_like(self, array: np.ndarray) -> ir.Value | None:
        """The table of that content that ids look rows up in."""
        for other in self._graph.initializers.values():
            tensor = other.const_value
            if tensor is None or not any(node.op_type == "Gather" for node, _ in other.uses()):
                continue
            is_alike = tuple(tensor.shape.numpy()) == array.shape and tensor.dtype.numpy() == array.dtype
            if is_alike and np.array_equal(tensor.numpy(), array):
                return other
        return None

    def _new(self, array: np.ndarray, wanted: str, like: ir.Value) -> ir.Value:
        name = self._free_name(wanted)
        tensor = ir.Tensor(array, dtype=like.const_value.dtype if like.const_value is not None else None, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        self._wanted[value] = wanted
        return value

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._graph.initializers:
            name, count = f"{wanted}.{count}", count + 1
        return name


def joined_name(names: Sequence[str]) -> str:
    """ "a.query.weight", "a.key.weight" → "a.query+key.weight": what differs between dots, joined by +."""
    parts = [name.split(".") for name in dict.fromkeys(names)]
    if len(parts) == 1:
        return f"{names[0]}.joined"
    shortest = min(map(len, parts)) - 1
    start = 0
    while start < shortest and len({part[start] for part in parts}) == 1:
        start += 1
    end = 0
    while end < shortest - start and len({part[-1 - end] for part in parts}) == 1:
        end += 1
    middle = "+".join(".".join(part[start : len(part) - end]) for part in parts)
    return ".".join([*parts[0][:start], middle, *parts[0][len(parts[0]) - end :]])


def _array(value: ir.Value) -> np.ndarray:
    array = constant(value)
    assert array is not None
    return array


def _original_name(value: ir.Value, bias: ir.Value | None) -> str:
    """The parameter's name, where its transposition is named X.T, or by a number."""
    try:
        sources = ast.literal_eval(value.metadata_props.get(_FOLDED_FROM, "[]"))
    except (SyntaxError, ValueError):
        sources = []
    if len(sources) == 1:
        return str(sources[0])
    name = (value.name or "weight").removesuffix(".T")
    module = ((bias.name if bias is not None else None) or "").removesuffix(".bias")
    if _NUMBERED.fullmatch(name) and bias is not None and module and module != bias.name:
        return f"{module}.weight"
    return name
