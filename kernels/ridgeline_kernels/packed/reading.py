"""An ONNX file of the packed dialect → a checked `Graph`. onnx is imported when a file is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ridgeline_kernels.errors import BackendError, GraphFileError, InvalidGraphError, UnsupportedOpError
from ridgeline_kernels.packed.checking import check_node, check_opsets, check_order, full_attributes
from ridgeline_kernels.packed.graph import DOMAIN, Constant, Graph, Node, Value
from ridgeline_kernels.packed.tensors import Held, check_mapped, dtype_of, held_tensor, mapped_tensor

GRAPH_INPUTS: Mapping[str, torch.dtype] = {
    "input_ids": torch.int64,
    "token_type_ids": torch.int64,
    "position_ids": torch.int64,
    "cu_seqlens": torch.int32,
}
"""The inputs that a packed graph may have: dialect.json's."""
_EXTERNAL = 1
# AttributeProto.AttributeType: FLOAT, INT, STRING, TENSOR, FLOATS, INTS
_READABLE = (1, 2, 3, 4, 6, 7)


def read_graph(path: Path, *, allow_missing_weights: bool = False) -> Graph:
    """Read a packed graph and check everything about it that does not need its weights' values.

    path:                  of the ONNX file, or of a directory with a model.onnx
    allow_missing_weights: files of weights may be absent; those that are there are still checked

    Raises GraphError, BackendError.
    """
    path = path / "model.onnx" if path.is_dir() else path
    model = _parse(path)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    check_opsets(path, opsets)
    graph = model.graph
    constants = dict(_initializers(path, graph.initializer, allow_missing_weights))
    inputs = {value.name: _value(value) for value in graph.input if value.name not in constants}
    for value in inputs.values():
        _check_input(path, value)
    outputs = {value.name: _value(value) for value in graph.output}
    if not outputs:
        raise InvalidGraphError(f"{path} has no outputs")
    nodes = []
    for index, proto in enumerate(graph.node):
        node = _node(proto, index, opsets[DOMAIN])
        if node.op_type == "Constant" and node.domain == "":
            constants[node.outputs[0]] = Held(_constant_of(node, proto))
        else:
            nodes.append(node)
    check_order(nodes, {*inputs, *constants}, outputs)
    return Graph(inputs, outputs, constants, tuple(nodes))


def _parse(path: Path) -> Any:
    try:
        import onnx
    except ImportError:
        raise BackendError("packed graphs are read with onnx, which is not installed: pip install onnx") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GraphFileError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        model = onnx.load_model_from_string(content)
    except _decode_errors():
        raise GraphFileError(
            f"{path} is no ONNX file, or was cut short: {len(content)} bytes that do not parse"
        ) from None
    if not model.HasField("graph") or not model.ir_version:
        raise GraphFileError(f"{path} is no ONNX file, or was cut short: {len(content)} bytes without a graph")
    return model


def _decode_errors() -> type[Exception]:
    error: type[Exception] = import_module("google.protobuf.message").DecodeError
    return error


def _initializers(path: Path, protos: Iterable[Any], allow_missing: bool) -> Iterable[tuple[str, Constant]]:
    for proto in protos:
        what = f"the weight {proto.name!r}"
        if proto.data_location != _EXTERNAL:
            yield proto.name, Held(held_tensor(proto, what))
            continue
        mapped = mapped_tensor(proto, what, path.parent)
        if not (allow_missing and not mapped.path.exists()):
            check_mapped(mapped, what, path)
        yield proto.name, mapped


def _check_input(path: Path, value: Value) -> None:
    if value.name not in GRAPH_INPUTS:
        raise InvalidGraphError(
            f"{path} has the input {value.name!r}; a packed graph has inputs among {', '.join(GRAPH_INPUTS)}"
        )
    rank = 1 if value.name == "cu_seqlens" else 2
    if value.dtype != GRAPH_INPUTS[value.name] or len(value.shape) != rank:
        raise InvalidGraphError(
            f"{path} has the input {value.name} of {value.dtype} {list(value.shape)}; it must be "
            f"{GRAPH_INPUTS[value.name]} of {rank} axes"
        )


def _value(proto: Any) -> Value:
    tensor = proto.type.tensor_type
    sizes = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return Value(proto.name, dtype_of(tensor.elem_type, f"the value {proto.name!r}"), sizes)


def _node(proto: Any, index: int, version: int) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    name = proto.name or f"{proto.op_type} number {index}"
    node = Node(name, proto.op_type, domain, tuple(proto.input), tuple(proto.output))
    if node.op_type == "Constant" and not domain:
        return node
    check_node(node, version)
    given = {attribute.name: _attribute(node, attribute) for attribute in proto.attribute}
    return replace(node, attributes=full_attributes(node, given))


def _attribute(node: Node, proto: Any) -> Any:
    from onnx import helper

    if proto.type not in _READABLE or proto.ref_attr_name:
        raise UnsupportedOpError(f"{node} has the attribute {proto.name} of a kind that the executor does not take")
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, int | float):
        return value
    if proto.type == 4:
        return held_tensor(value, f"the attribute {proto.name} of {node}")
    return tuple(value)


def _constant_of(node: Node, proto: Any) -> Any:
    if len(proto.attribute) != 1 or len(node.outputs) != 1:
        raise InvalidGraphError(f"{node} has {len(proto.attribute)} attributes and must have one: its value")
    attribute = proto.attribute[0]
    value = _attribute(node, attribute)
    if attribute.name == "value" and isinstance(value, torch.Tensor):
        return value
    if attribute.name in ("value_int", "value_ints"):
        return torch.tensor(value, dtype=torch.int64)
    if attribute.name in ("value_float", "value_floats"):
        return torch.tensor(value, dtype=torch.float32)
    raise UnsupportedOpError(
        f"{node} gives its value by the attribute {attribute.name}, which the executor does not take"
    )
