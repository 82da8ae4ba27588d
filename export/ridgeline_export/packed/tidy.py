"""torch's exported graph → a packed graph by the law: inputs, axes, names, versions, and nothing besides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ridgeline_export.convert import rename_axes
from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.check_shapes import check_shapes
from ridgeline_export.packed.dialect import dialect

if TYPE_CHECKING:
    import onnx_ir

INPUTS = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens")
_KEPT_ALWAYS = ("input_ids", "cu_seqlens")


def tidy(program: onnx_ir.Model, outputs: Sequence[str]) -> None:
    """Bring an exported graph into the dialect's form, in place.

    outputs: the graph's outputs by name, in order; others are dropped with what computes them alone
    Raises ConversionError naming the node or axis that the dialect has no room for, or a shape made of what the
    tokens are.
    """
    from onnx_ir.passes import common

    from ridgeline_export.packed.tables import fold_tables

    graph = program.graph
    _keep_outputs(graph, outputs)
    common.RemoveUnusedNodesPass()(program)
    fold_tables(graph)
    common.RemoveUnusedNodesPass()(program)
    _keep_inputs(graph)
    _name_axes(graph)
    _name_initializers(graph)
    _check_nodes(program)
    check_shapes(graph)
    _strip(program)
    law = dialect()
    program.ir_version = law.ir_version
    program.opset_imports.clear()
    program.opset_imports.update({"": law.opset, law.domain: _version(graph)})
    program.functions.clear()


def _keep_outputs(graph: onnx_ir.Graph, names: Sequence[str]) -> None:
    outputs = {value.name: value for value in graph.outputs}
    graph.outputs.clear()
    graph.outputs.extend(outputs[name] for name in names)


def _keep_inputs(graph: onnx_ir.Graph) -> None:
    inputs = {str(value.name): value for value in graph.inputs}
    kept = [name for name in INPUTS if name in inputs and (name in _KEPT_ALWAYS or inputs[name].uses())]
    graph.inputs.clear()
    graph.inputs.extend(inputs[name] for name in kept)


def _name_axes(graph: onnx_ir.Graph) -> None:
    """Name the axes `tokens`, `bounds` and `sequences` in place of torch's symbols, in the whole graph."""
    import onnx_ir

    names: dict[str | None, str] = {}
    for value in graph.inputs:
        axis = value.shape[-1] if value.shape is not None else None
        name = "bounds" if value.name == "cu_seqlens" else "tokens"
        if not isinstance(axis, onnx_ir.SymbolicDim) or axis.value is None:
            raise ConversionError(
                f"the {name} axis of input '{value.name}' is fixed to {axis} in the graph; please report the model"
            )
        if names.setdefault(axis.value, name) != name:
            raise ConversionError("the graph takes the number of tokens for that of sequences; please report the model")
        if name == "bounds":
            names |= {f"{axis.value} - 1": "sequences", f"{axis.value}-1": "sequences"}
    rename_axes(graph, names)
    for value in graph.outputs:
        if not any(isinstance(axis, onnx_ir.SymbolicDim) for axis in value.shape or ()):
            raise ConversionError(
                f"output '{value.name}' has the fixed shape {value.shape} in the graph; please report the model"
            )


def _name_initializers(graph: onnx_ir.Graph) -> None:
    """Call weights as the model does."""
    for name in list(graph.initializers):
        if name.startswith("model.") and (short := name.removeprefix("model.")) not in graph.initializers:
            graph.initializers[name].name = short


def _check_nodes(program: onnx_ir.Model) -> None:
    law = dialect()
    for node in program.graph.all_nodes():
        if node.domain == law.domain and node.op_type in law.ops:
            continue
        if node.domain not in ("", "ai.onnx"):
            raise ConversionError(
                f"node '{node.name}' is {node.domain}::{node.op_type}, which no packed graph may hold; "
                "please report the model"
            )


def _version(graph: onnx_ir.Graph) -> int:
    """The first version of the dialect that has all of the graph's ops: older readers take what they know."""
    law = dialect()
    return max((law.ops[node.op_type].since for node in graph.all_nodes() if node.domain == law.domain), default=1)


def _strip(program: onnx_ir.Model) -> None:
    """Drop what torch notes about every node: stack traces, with the paths of this machine."""
    program.graph.doc_string = None
    program.graph.name = "packed"
    program.graph.metadata_props.clear()
    program.metadata_props.clear()
    program.doc_string = None
    for node in program.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*program.graph.inputs, *program.graph.initializers.values()]:
        value.metadata_props.clear()
