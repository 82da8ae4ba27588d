"""Everything that needs the onnx library: files, shape inference of a node, its evaluation on constants."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline_estimate.errors import GraphError
from ridgeline_estimate.graph.model import (
    FORMAT_BYTES,
    FORMATS,
    Array,
    Axis,
    Body,
    Call,
    Declared,
    Node,
    Weight,
)
from ridgeline_estimate.graph.registry import STANDARD, Outputs, handled_ops

if TYPE_CHECKING:
    import onnx

# Elements of a constant that shape arithmetic may need; larger ones are data.
SMALL_ELEMENTS = 4096
_GRAPH_ATTRIBUTES = (5, 10)  # onnx.proto, AttributeProto.AttributeType: GRAPH, GRAPHS


@dataclass(frozen=True)
class Proto:
    """A graph file that was read.

    body:    its main graph, model-local functions expanded
    opsets:  version of each op domain that it imports
    """

    path: Path
    body: Body
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    weight_bytes: int = field(default=0)

    @property
    def opset(self) -> int:
        """Version of the standard op domain."""
        return self.opsets.get(STANDARD, 0)

    @cached_property
    def _imports(self) -> list[onnx.OperatorSetIdProto]:
        from onnx import helper

        return [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]

    def infer(self, call: Call) -> Outputs | None:
        """Element types and shapes of a call's outputs as ONNX infers them, None when it does not know the op."""
        import onnx
        from onnx import defs, numpy_helper, shape_inference

        node = call.node
        domain = STANDARD if node.domain == "ai.onnx" else node.domain
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(domain, 1), domain)
        except defs.SchemaError:
            return None
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name, value in zip(node.inputs, call.inputs, strict=True):
            if value is not None:
                types[name] = onnx.helper.make_tensor_type_proto(value.element_type, value.shape)
                if value.constant is not None and value.constant.dtype.kind in "iubf":
                    data[name] = numpy_helper.from_array(np.asarray(value.constant))
        try:
            found = shape_inference.infer_node_outputs(
                schema, node.proto, types, data, None, self._imports, self.ir_version
            )
        except (shape_inference.InferenceError, RuntimeError, ValueError, TypeError):
            return None
        return [_complete(found[name]) if name in found else None for name in node.outputs]

    def evaluate(self, call: Call) -> list[Array | None] | None:
        """The outputs of a call whose inputs are all constants, None when they cannot be computed."""
        from onnx.reference import ReferenceEvaluator

        feed = {
            name: value.constant for name, value in zip(call.node.inputs, call.inputs, strict=True) if value is not None
        }
        try:
            with np.errstate(all="ignore"):
                found = ReferenceEvaluator(call.node.proto, opsets=dict(self.opsets)).run(None, feed)
        except Exception:  # its ops raise whatever numpy raises; without the constant the count goes on
            return None
        return [np.asarray(array) if isinstance(array, np.ndarray | np.generic) else None for array in found]


def read_proto(path: str | Path) -> Proto:
    """Read an ONNX file without its external weights, which may be absent.

    Raises GraphError when there is no ONNX graph at that path.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import inliner
    except ImportError:
        raise GraphError("reading an ONNX graph needs the onnx package: pip install 'ridgeline[export]'") from None

    path = Path(path)
    if not path.exists():
        raise GraphError(f"there is no file {path}; give the path of an ONNX graph (model.onnx)")
    if path.is_dir():
        raise GraphError(f"{path} is a directory; give the path of the ONNX graph in it (model.onnx)")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError):
        raise GraphError(f"{path} is not an ONNX graph, or it is cut short; export or copy it again") from None
    except OSError as error:
        raise GraphError(f"{path} cannot be read ({error.strerror or error})") from None
    if not model.graph.node or not model.opset_import:
        raise GraphError(f"{path} holds no ONNX graph (no nodes or no opset); export or copy it again")
    if model.functions:
        # Functions that a handler counts as one op stay whole.
        model = inliner.inline_selected_functions(model, sorted(handled_ops()), exclude=True)
    opsets = {STANDARD if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    body = _body(model.graph, path.parent)
    return Proto(path, body, opsets, model.ir_version, model.producer_name, _weight_bytes(model))


def _body(graph: onnx.GraphProto, directory: Path) -> Body:
    weights = {tensor.name: _weight(tensor, tensor.name, directory) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        shape, values = tuple(sparse.dims), sparse.values
        size = _tensor_bytes(values) + _tensor_bytes(sparse.indices)
        weights[values.name] = Weight(values.name, values.data_type, shape, size)
    nodes = []
    for proto in graph.node:
        if proto.op_type == "Constant" and proto.domain in (STANDARD, "ai.onnx"):
            weights[proto.output[0]] = _constant(proto, directory)
        else:
            nodes.append(_node(proto, directory))
    inputs = [_declared(info) for info in graph.input if info.name not in weights]
    return Body(
        inputs=tuple(inputs),
        outputs=tuple(info.name for info in graph.output),
        weights=weights,
        declared={info.name: _declared(info) for info in (*graph.value_info, *graph.output)},
        nodes=tuple(_sorted(nodes, {*weights, *(value.name for value in inputs)})),
    )


def _sorted(nodes: list[Node], available: set[str]) -> Iterator[Node]:
    """Nodes in an order in which they can run; ONNX asks for one, and not every tool keeps to it."""
    made_here = {name for node in nodes for name in node.outputs if name}
    ready, waiting = set(available), nodes
    while waiting:
        blocked = []
        for node in waiting:
            if any(name in made_here and name not in ready for name in needed_names(node)):
                blocked.append(node)
            else:
                ready.update(node.outputs)
                yield node
        if len(blocked) == len(waiting):
            raise GraphError(f"the graph has a cycle through {blocked[0]}; export it again")
        waiting = blocked


def needed_names(node: Node) -> Iterator[str]:
    """Names that a node reads, those that its subgraphs take from outside among them."""
    yield from node.inputs
    for body in node.bodies.values():
        for inner in body.nodes:
            yield from needed_names(inner)
        yield from body.outputs


def _node(proto: onnx.NodeProto, directory: Path) -> Node:
    from onnx import helper

    attributes: dict[str, Any] = {}
    bodies: dict[str, Body] = {}
    for attribute in proto.attribute:
        if attribute.type in _GRAPH_ATTRIBUTES:
            bodies |= {attribute.name: _body(attribute.g, directory)} if attribute.HasField("g") else {}
        else:
            value = helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return Node(
        name=proto.name,
        op_type=proto.op_type,
        domain=proto.domain,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        bodies=bodies,
        path=_module_path(proto),
        proto=proto,
    )


def _module_path(proto: onnx.NodeProto) -> str:
    """Path of the module that a node came from, in torch.export's metadata or TorchScript's names."""
    for entry in proto.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = literal_eval(entry.value)
            except (ValueError, SyntaxError):
                continue
            if isinstance(scopes, list) and len(scopes) > 1 and isinstance(scopes[-2], str):
                return scopes[-2]
    if proto.name.count("/") > 1:
        return proto.name.strip("/").rpartition("/")[0].replace("/", ".")
    return ""


def _declared(info: onnx.ValueInfoProto) -> Declared:
    kind = info.type.tensor_type
    shape: tuple[Axis, ...] | None = None
    if kind.HasField("shape"):
        shape = tuple(_axis(axis) for axis in kind.shape.dim)
    return Declared(info.name, kind.elem_type, shape)


def _axis(axis: onnx.TensorShapeProto.Dimension) -> Axis:
    if axis.HasField("dim_value"):
        return axis.dim_value
    # Exporters write sizes as text where they had taken them for symbols at first.
    return int(axis.dim_param) if axis.dim_param.isdigit() else axis.dim_param or None


def _constant(proto: onnx.NodeProto, directory: Path) -> Weight:
    name, attribute = proto.output[0], proto.attribute[0]
    if attribute.name == "value":
        return _weight(attribute.t, name, directory)
    if attribute.name == "sparse_value":
        sparse = attribute.sparse_tensor
        return Weight(name, sparse.values.data_type, tuple(sparse.dims), _tensor_bytes(sparse.values))
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    kind = np.float32 if "float" in attribute.name else np.int64
    array = np.zeros(np.shape(value)) if "string" in attribute.name else np.asarray(value, kind)
    element_type = 8 if "string" in attribute.name else helper.np_dtype_to_tensor_dtype(array.dtype)
    return Weight(name, element_type, array.shape, array.nbytes, None if element_type == 8 else array)


def _weight(tensor: onnx.TensorProto, name: str, directory: Path) -> Weight:
    return Weight(name, tensor.data_type, tuple(tensor.dims), _tensor_bytes(tensor), _small_array(tensor, directory))


def _small_array(tensor: onnx.TensorProto, directory: Path) -> Array | None:
    """Elements of a tensor that shape arithmetic may need, None when there are many or their file is absent."""
    from onnx import TensorProto, numpy_helper

    if np.prod(tensor.dims, dtype=np.int64) > SMALL_ELEMENTS or tensor.data_type == TensorProto.STRING:
        return None
    try:
        return numpy_helper.to_array(tensor, str(directory))
    except Exception:  # a file that is absent or too short, in the words of protobuf, onnx, numpy or the system
        return None


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    bytes_each = FORMAT_BYTES[FORMATS.get(tensor.data_type, "int64")]
    return ceil(float(np.prod(tensor.dims, dtype=np.float64)) * bytes_each)


def _weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all initializers and constants; those that share a place in a weight file count once."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for tensor in _tensors(model.graph):
        place = tuple(f"{entry.key}={entry.value}" for entry in tensor.external_data if entry.key != "checksum")
        if not place or place not in seen:
            total += _tensor_bytes(tensor)
        seen.add(place)
    return total


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)


def _complete(kind: onnx.TypeProto) -> tuple[int, tuple[int, ...]] | None:
    """Element type and shape, None when an axis is not known."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape") or any(not axis.HasField("dim_value") for axis in tensor.shape.dim):
        return None
    return tensor.elem_type, tuple(axis.dim_value for axis in tensor.shape.dim)
