"""Embedding tables that hold what is constant about positions and types, so that a look-up is all that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir


def fold_tables(graph: onnx_ir.Graph) -> None:
    """Fold RoBERTa's offset of positions, and the row of a model's only token type, into the table of positions."""
    for node in list(graph):
        if node.op_type == "Gather" and not node.domain:
            _fold_offset(graph, node)
    for node in list(graph):
        if node.op_type == "Add" and not node.domain:
            _fold_row(graph, node)


def _fold_offset(graph: onnx_ir.Graph, gather: onnx_ir.Node) -> None:
    """Gather(table, position_ids + n) → Gather(table[n:], position_ids)."""
    table, indices = gather.inputs
    values, added = _constant(table), None if indices is None else indices.producer()
    if table is None or values is None or added is None or added.op_type != "Add" or not _is_rows(gather):
        return
    for ids, offset in (tuple(added.inputs), tuple(added.inputs)[::-1]):
        number = _constant(offset)
        if ids is not None and ids.name == "position_ids" and number is not None and number.size == 1:
            first = int(number.item())
            gather.replace_input_with(0, _initializer(graph, f"{table.name}.from_{first}", values[first:]))
            gather.replace_input_with(1, ids)
            return


def _fold_row(graph: onnx_ir.Graph, inner: onnx_ir.Node) -> None:
    """(x + row) + Gather(table, position_ids) → x + Gather(table + row, position_ids)."""
    index = next((index for index, value in enumerate(inner.inputs) if _is_row(_constant(value))), None)
    uses = tuple(inner.outputs[0].uses())
    if index is None or len(uses) != 1 or inner.outputs[0].is_graph_output():
        return
    outer, place = uses[0]
    looked_up = outer.inputs[1 - place] if outer.op_type == "Add" and not outer.domain else None
    gather = None if looked_up is None else looked_up.producer()
    if gather is None or gather.op_type != "Gather" or len(gather.outputs[0].uses()) != 1 or not _is_rows(gather):
        return
    (table, positions), row = gather.inputs, inner.inputs[index]
    values, row_values = _constant(table), _constant(row)
    if table is None or row is None or values is None or row_values is None:
        return
    if positions is not None and positions.name == "position_ids":
        name = f"{table.name}.with_{row.name}"
        gather.replace_input_with(0, _initializer(graph, name, values + row_values.reshape(1, -1)))
        outer.replace_input_with(place, inner.inputs[1 - index])


def _is_rows(gather: onnx_ir.Node) -> bool:
    return gather.attributes.get_int("axis", 0) == 0


def _is_row(values: np.ndarray | None) -> bool:
    return values is not None and values.size > 1 and values.size == values.shape[-1]


def _constant(value: onnx_ir.Value | None) -> np.ndarray | None:
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def _initializer(graph: onnx_ir.Graph, name: str, values: np.ndarray) -> onnx_ir.Value:
    import numpy as np
    import onnx_ir

    if name in graph.initializers:
        return graph.initializers[name]
    tensor = onnx_ir.tensor(np.ascontiguousarray(values), name=name)
    value = onnx_ir.Value(
        name=name, shape=onnx_ir.Shape(values.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
