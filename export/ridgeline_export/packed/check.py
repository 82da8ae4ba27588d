"""Is a graph a packed graph, of this version of the dialect?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.check_node import check_node, describe
from ridgeline_export.packed.check_shapes import check_shapes
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.specification import ValueSpec, graph_inputs, graph_outputs

if TYPE_CHECKING:
    import onnx_ir


def check_packed(program: onnx_ir.Model) -> None:
    """Hold a whole graph to dialect.json: its version, inputs, outputs by task, every node, and where shapes come from.

    Raises ConversionError, one sentence.
    """
    _check_opsets(program)
    _check_inputs(program.graph)
    _check_outputs(program.graph)
    _check_nodes(program)
    check_shapes(program.graph)


def check_ops(program: onnx_ir.Model) -> None:
    """Hold a graph's opsets and every node of the dialect to dialect.json, whatever its inputs and outputs are.

    Raises ConversionError, which names the node.
    """
    _check_opsets(program)
    _check_nodes(program)


def _check_opsets(program: onnx_ir.Model) -> None:
    law = dialect()
    opset, version = program.opset_imports.get(""), program.opset_imports.get(law.domain)
    if opset != law.opset:
        raise ConversionError(f"the packed graph imports opset {opset}; the dialect's bodies are of opset {law.opset}")
    if version is not None and not 1 <= version <= law.version:
        raise ConversionError(
            f"the packed graph imports version {version} of the domain '{law.domain}'; "
            f"this Ridgeline knows versions up to {law.version}"
        )


def _check_nodes(program: onnx_ir.Model) -> None:
    law = dialect()
    for node in program.graph.all_nodes():
        if node.domain == law.domain:
            if law.domain not in program.opset_imports:
                raise ConversionError(
                    f"the packed graph has a {describe(node)} and imports no version of the domain '{law.domain}'"
                )
            check_node(node)
            since, version = law.ops[node.op_type].since, program.opset_imports[law.domain]
            if since > version:
                raise ConversionError(
                    f"the packed graph's {describe(node)} is an op since version {since} of the dialect, and the graph "
                    f"imports version {version}"
                )
        elif node.domain and node.op_identifier() not in program.functions:
            raise ConversionError(
                f"the packed graph's {describe(node)} is of the domain '{node.domain}'; "
                f"a packed graph has standard ops and those of '{law.domain}' only"
            )


def _check_inputs(graph: onnx_ir.Graph) -> None:
    specs = {spec.name: spec for spec in graph_inputs()}
    for value in graph.inputs:
        if value.name not in specs:
            raise ConversionError(f"the packed graph has an input '{value.name}'; the dialect's are {', '.join(specs)}")
        _check_value("input", value, specs[value.name], specs[value.name].type.upper())
    names = [value.name for value in graph.inputs]
    for spec in specs.values():
        if not spec.is_optional and spec.name not in names:
            raise ConversionError(f"the packed graph has no input '{spec.name}', which every packed graph has")
    order = [name for name in specs if name in names]
    if names != order:
        raise ConversionError(
            f"the packed graph's inputs are in the order {', '.join(map(str, names))}; it must be {', '.join(order)}"
        )


def _check_outputs(graph: onnx_ir.Graph) -> None:
    found = {str(value.name): value for value in graph.outputs}
    tasks = graph_outputs()
    if not any(_gives(found, specs) for specs in tasks.values()):
        known = "; ".join(f"{task}: {', '.join(spec.name for spec in specs)}" for task, specs in tasks.items())
        raise ConversionError(f"the packed graph gives {', '.join(found) or 'nothing'}, which is no task's ({known})")
    for name, value in found.items():
        specs = [spec for specs in tasks.values() for spec in specs if spec.name == name]
        ranks = {len(spec.shape): spec for spec in specs}
        rank = None if value.shape is None else len(value.shape)
        _check_value("output", value, ranks.get(rank or 0, specs[0]), "FLOAT")


def _gives(found: dict[str, onnx_ir.Value], specs: tuple[ValueSpec, ...]) -> bool:
    """True when outputs are a task's; `pooled` is for sentence encoders alone, so it may be absent."""
    needed = {spec.name for spec in specs if not spec.is_optional and spec.name != "pooled"}
    return needed <= set(found) <= {spec.name for spec in specs}


def _check_value(kind: str, value: onnx_ir.Value, spec: ValueSpec, dtype: str) -> None:
    found = None if value.dtype is None else value.dtype.name
    if found != dtype:
        raise ConversionError(f"the packed graph's {kind} '{value.name}' is of type {found}; it must be {dtype}")
    if value.shape is not None and len(value.shape) != len(spec.shape):
        wanted = ", ".join(map(str, spec.shape))
        raise ConversionError(
            f"the packed graph's {kind} '{value.name}' has {len(value.shape)} axes; it must be [{wanted}]"
        )
