"""Looked-up rows of tables, added up and normalized → EmbeddingLayerNorm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ridgeline_export.packed.fuse.surgery import make_ridgeline, replace
from ridgeline_export.packed.fuse.values import (
    attribute_float,
    axis_of,
    constant,
    dims,
    input_of,
    is_read_once,
    is_weight,
    last_dim,
    operands,
    producer,
    scalar,
)
from ridgeline_export.packed.fuse.views import source_of_view
from ridgeline_export.packed.fuse.weights import Weights

# The op's pairs of inputs, by the graph input that each is for.
_SLOTS = ("input_ids", "position_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class _Lookup:
    """Rows of a table: ids [1, tokens] int64, counted from the table's row `first` on."""

    ids: ir.Value
    table: ir.Value
    first: int


@dataclass(frozen=True, slots=True)
class _Row:
    """The same row for every token."""

    value: ir.Value


def fuse_embeddings(program: ir.Model, weights: Weights) -> int:
    """Sums of lookups with the LayerNorm behind them; without it where the sum has other readers too."""
    graph = program.graph
    fused = 0
    taken: set[ir.Node] = set()
    for node in reversed(tuple(graph)):
        if node in taken or node.domain != "":
            continue
        if node.op_type == "LayerNormalization" and _is_plain_norm(node):
            total = node.inputs[0]
            assert total is not None
            if not is_read_once(total):
                continue
            norm = node
        elif node.op_type in ("Add", "Gather"):
            total, norm = node.outputs[0], None
        else:
            continue
        terms = _terms(total)
        slots = None if terms is None else _slots(terms, weights)
        if slots is None:
            continue
        new = _embedding(slots, norm)
        last = norm or node
        replace(last, [new], [last.outputs[0]], new.outputs)
        taken.update(_makers(total))
        fused += 1
    return fused


def _is_plain_norm(node: ir.Node) -> bool:
    shape, bias = dims(node.inputs[0]), input_of(node, 2)
    if shape is None or len(shape) != 3 or axis_of(node, 3) != 2 or any(output.uses() for output in node.outputs[1:]):
        return False
    return is_weight(node.inputs[1], 1) and (bias is None or is_weight(bias, 1))


def _terms(value: ir.Value) -> list[_Lookup | _Row] | None:
    """What a sum [1, tokens, dim] consists of; None if any of it is neither a lookup nor a constant row."""
    shape = dims(value)
    if shape is None or len(shape) != 3 or shape[0] != 1:
        return None
    return _summands(value, last_dim(value))


def _summands(value: ir.Value, dim: int | None) -> list[_Lookup | _Row] | None:
    lookup = _lookup(value, dim)
    if lookup is not None:
        return [lookup]
    shape = dims(value)
    if is_weight(value, 1) or is_weight(value, 2) or is_weight(value, 3):
        assert shape is not None
        return [_Row(value)] if shape[-1] == dim and all(size == 1 for size in shape[:-1]) else None
    node = producer(value, "Add")
    if node is None:
        return None
    found: list[_Lookup | _Row] = []
    for operand in node.inputs:
        assert operand is not None
        # A lookup may have other readers: it is cheap to do twice. A sum that others read is better kept.
        if producer(operand, "Add") is not None and not is_read_once(operand):
            return None
        more = _summands(operand, dim)
        if more is None:
            return None
        found += more
    return found


def _lookup(value: ir.Value, dim: int | None) -> _Lookup | None:
    node = producer(value, "Gather")
    if node is None or not is_weight(node.inputs[0], 2) or axis_of(node, 2, 0) != 0 or last_dim(value) != dim:
        return None
    table, ids = node.inputs[0], node.inputs[1]
    assert table is not None and ids is not None
    if constant(ids) is not None:
        return None
    ids, first = source_of_view(ids), 0
    shift = producer(ids, "Add")
    if shift is not None:
        for shifted, by in operands(shift):
            offset = scalar(by)
            # Positions count from 0: a model's own offset cuts the table's first rows off.
            if offset is not None and offset >= 0 and source_of_view(shifted).is_graph_input():
                ids, first = source_of_view(shifted), int(offset)
    shape = dims(ids)
    if shape is None or len(shape) != 2 or shape[0] != 1 or ids.dtype != ir.DataType.INT64:
        return None
    return _Lookup(ids, table, first)


def _slots(terms: Sequence[_Lookup | _Row], weights: Weights) -> list[tuple[ir.Value, ir.Value] | None] | None:
    """The lookups by slot, rows added into one of the tables; None if they do not fit."""
    lookups = [term for term in terms if isinstance(term, _Lookup)]
    rows = [term.value for term in terms if isinstance(term, _Row)]
    slots: list[_Lookup | None] = [None, None, None]
    for name_first in (True, False):
        for lookup in lookups:
            if lookup in slots:
                continue
            free = [index for index in range(3) if slots[index] is None]
            if name_first:
                free = [index for index in free if lookup.ids.name == _SLOTS[index]]
            if free:
                slots[free[0]] = lookup
    if slots[0] is None or sum(slot is not None for slot in slots) != len(lookups):
        return None
    tables = [None if slot is None else weights.rows_from(slot.table, slot.first) for slot in slots]
    for row in rows:
        index = _cheapest(tables)
        table = tables[index]
        assert table is not None
        tables[index] = weights.plus(table, row)
    return [
        None if slot is None or table is None else (slot.ids, table) for slot, table in zip(slots, tables, strict=True)
    ]


def _cheapest(tables: Sequence[ir.Value | None]) -> int:
    """The table with the fewest rows: it is stored once more when somebody else reads it too."""
    present = [index for index, table in enumerate(tables) if table is not None]
    return min(present, key=lambda index: tables[index].const_value.shape.numpy()[0])  # type: ignore[union-attr]


def _embedding(slots: Sequence[tuple[ir.Value, ir.Value] | None], norm: ir.Node | None) -> ir.Node:
    inputs: list[ir.Value | None] = [value for slot in slots for value in (slot or (None, None))]
    if norm is None:
        return make_ridgeline("EmbeddingLayerNorm", inputs, {"normalize": 0})
    inputs += [norm.inputs[1], input_of(norm, 2)]
    return make_ridgeline("EmbeddingLayerNorm", inputs, {"epsilon": attribute_float(norm, "epsilon", 1e-5)})


def _makers(value: ir.Value) -> list[ir.Node]:
    """The nodes of a sum of lookups."""
    node = value.producer()
    if node is None or node.op_type not in ("Add", "Gather"):
        return []
    return [node, *(maker for operand in node.inputs if operand is not None for maker in _makers(operand))]
