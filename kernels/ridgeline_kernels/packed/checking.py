"""What is wrong with a graph that is not as ONNX and the dialect say: one sentence each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ridgeline_kernels.errors import (
    ForeignGraphError,
    InvalidGraphError,
    NewerDialectError,
    UnsupportedOpError,
)
from ridgeline_kernels.packed.dialect import OpSchema, dialect
from ridgeline_kernels.packed.graph import DOMAIN, Node
from ridgeline_kernels.packed.standard_ops.registry import STANDARD_OPS

_TYPES: Mapping[str, type] = {"int": int, "float": float, "string": str}


def check_opsets(path: object, opsets: Mapping[str, int]) -> None:
    """Raise ForeignGraphError or NewerDialectError unless a graph imports the dialect in a version that is known."""
    law = dialect()
    if law.domain not in opsets:
        raise ForeignGraphError(
            f"{path} is an ONNX graph that is not ours: it does not import the domain {law.domain}; export a packed "
            "variant (ridgeline export MODEL OUT --variants packed-fp16), or, if it was made with --inline, make it "
            "without"
        )
    if opsets[law.domain] > law.version:
        raise NewerDialectError(
            f"{path} is of version {opsets[law.domain]} of the dialect, and this code knows versions up to "
            f"{law.version}: upgrade ridgeline, or export the model with this version"
        )
    standard = opsets.get("", opsets.get("ai.onnx", 0))
    if standard != law.opset:
        raise InvalidGraphError(
            f"{path} imports opset {standard} of ONNX, and packed graphs have opset {law.opset}: export the model again"
        )


def check_node(node: Node, version: int) -> None:
    """Raise UnsupportedOpError or InvalidGraphError unless the node is an op that is known, with its operands.

    version: of the dialect, that the graph imports
    """
    if node.domain == DOMAIN:
        schema = dialect().ops.get(node.op_type)
        if schema is None:
            raise UnsupportedOpError(
                f"node {node.name!r} is the op {node.op_type} of the domain {DOMAIN}, which has none of this name; "
                f"there are {', '.join(sorted(dialect().ops))}"
            )
        if schema.since > version:
            raise InvalidGraphError(
                f"{node} is an op of the dialect since version {schema.since}, and the graph imports version "
                f"{version}: export the model again"
            )
        _check_operands(node, "input", node.inputs, schema.inputs, schema.optional)
        _check_operands(node, "output", node.outputs, schema.outputs, schema.optional)
        return
    if node.domain != "":
        raise UnsupportedOpError(
            f"node {node.name!r} is the op {node.op_type} of the domain {node.domain}; the executor has the domains "
            f"{DOMAIN} and ai.onnx"
        )
    if node.op_type not in STANDARD_OPS:
        why = " because its shape would depend on data" if node.op_type in _SHAPED_BY_DATA else ""
        near = ", ".join(get_close_matches(node.op_type, STANDARD_OPS)) or "none"
        raise UnsupportedOpError(
            f"node {node.name!r} is the op {node.op_type} of the domain ai.onnx, which the executor lacks{why}; it has "
            f"{len(STANDARD_OPS)} of ONNX's ops, of names near to this one {near}"
        )
    _check_standard_operands(node)


_SHAPED_BY_DATA = ("NonZero", "Compress", "Unique", "NonMaxSuppression", "If", "Loop", "Scan")


def _check_operands(
    node: Node, kind: str, given: Sequence[str], known: Sequence[str], optional: Collection[str]
) -> None:
    if len(given) > len(known):
        raise InvalidGraphError(f"{node} has {len(given)} {kind}s; {node.op_type} has {len(known)}: {', '.join(known)}")
    for index, name in enumerate(known):
        if name not in optional and (index >= len(given) or not given[index]):
            raise InvalidGraphError(f"{node} lacks the {kind} {name}, which {node.op_type} needs")


def _check_standard_operands(node: Node) -> None:
    from onnx import defs

    schema = defs.get_schema(node.op_type, dialect().opset, "")
    given = len(node.inputs)
    if not schema.min_input <= given <= schema.max_input or len(node.outputs) > schema.max_output:
        raise InvalidGraphError(
            f"{node} has {given} inputs and {len(node.outputs)} outputs; {node.op_type} takes {schema.min_input} to "
            f"{schema.max_input} inputs and gives up to {schema.max_output} outputs"
        )
    for parameter, name in zip(schema.inputs, node.inputs, strict=False):
        if not name and parameter.option == defs.OpSchema.FormalParameterOption.Single:
            raise InvalidGraphError(f"{node} lacks the input {parameter.name}, which {node.op_type} needs")


def full_attributes(node: Node, given: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a node with those that it leaves to their defaults.

    given: by name, of the types int, float, str, tuple or torch.Tensor

    Raises InvalidGraphError.
    """
    if node.domain == DOMAIN:
        return _dialect_attributes(node, dialect().ops[node.op_type], given)
    from onnx import defs, helper

    schema = defs.get_schema(node.op_type, dialect().opset, "")
    _refuse_unknown(node, given, schema.attributes)
    full: dict[str, Any] = {}
    for name, attribute in schema.attributes.items():
        if name in given:
            full[name] = given[name]
        elif attribute.required:
            raise InvalidGraphError(f"{node} lacks the attribute {name}, which {node.op_type} needs")
        elif attribute.default_value.type:
            value = helper.get_attribute_value(attribute.default_value)
            full[name] = value.decode() if isinstance(value, bytes) else value
        else:
            full[name] = None
    return full


def _dialect_attributes(node: Node, schema: OpSchema, given: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_unknown(node, given, schema.attributes)
    full: dict[str, Any] = {}
    for name, attribute in schema.attributes.items():
        if name not in given:
            if attribute.is_required:
                raise InvalidGraphError(f"{node} lacks the attribute {name}, which {node.op_type} needs")
            full[name] = attribute.default
            continue
        value = full[name] = given[name]
        if not isinstance(value, _TYPES[attribute.type]):
            raise InvalidGraphError(f"{node} has {name} = {value!r}; {name} is of type {attribute.type}")
        if attribute.allowed is not None and value not in attribute.allowed:
            allowed = ", ".join(map(repr, attribute.allowed))
            raise InvalidGraphError(f"{node} has {name} = {value!r}; allowed: {allowed}")
        if isinstance(value, int | float) and (bound := attribute.bound(value)) is not None:
            raise InvalidGraphError(f"{node} has {name} = {value!r}; it must be {bound}")
    return full


def _refuse_unknown(node: Node, given: Iterable[str], known: Collection[str]) -> None:
    for name in given:
        if name not in known:
            names = ", ".join(sorted(known)) or "no attribute"
            raise InvalidGraphError(f"{node} has the attribute {name}, which {node.op_type} lacks; it has {names}")


def check_order(nodes: Sequence[Node], given: Collection[str], outputs: Iterable[str]) -> None:
    """Raise InvalidGraphError unless each node reads what is given or what nodes before it make, each name made once.

    given: names of inputs and constants
    """
    made_by: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in made_by or name in given:
                other = str(nodes[made_by[name]]) if name in made_by else "an input or a constant"
                raise InvalidGraphError(f"{node} makes {name!r}, which {other} is already: a name may be made once")
            made_by[name] = index
    for index, node in enumerate(nodes):
        for name in filter(None, node.inputs):
            if name in given or made_by.get(name, index) < index:
                continue
            if name not in made_by:
                raise InvalidGraphError(
                    f"{node} reads {name!r}, which is no input, no constant and no node's output: export it again"
                )
            cycle = _cycle_through(nodes, made_by, index)
            if cycle:
                through = " → ".join(repr(nodes[at].name) for at in cycle)
                raise InvalidGraphError(
                    f"the graph is cyclic: {node} reads what follows from its own output: {through}"
                )
            raise InvalidGraphError(
                f"{node} reads {name!r} before {nodes[made_by[name]]} makes it: the nodes must be sorted"
            )
    for name in outputs:
        if name not in made_by and name not in given:
            raise InvalidGraphError(f"the graph's output {name!r} is made by no node")


def _cycle_through(nodes: Sequence[Node], made_by: Mapping[str, int], start: int) -> list[int]:
    """The nodes from one that reads the output of `start` back to `start`; empty if there is no such way."""
    came_from: dict[int, int] = {}
    waiting = [start]
    while waiting:
        reader = waiting.pop()
        for name in nodes[reader].inputs:
            maker = made_by.get(name)
            if maker is None or maker in came_from:
                continue
            came_from[maker] = reader
            if maker == start:
                way = [start]
                while (step := came_from[way[-1]]) != start:
                    way.append(step)
                return [*way, start]
            waiting.append(maker)
    return []
