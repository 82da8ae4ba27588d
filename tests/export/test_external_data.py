"""Where graphs have their weights: what is read without the package onnx is what onnx says, and it stays inside."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ridgeline_export.bundle import MANIFEST_NAME, BundleCorruptError, read_bundle
from ridgeline_export.external_data import external_locations

GRAPH = "fp32/model.onnx"


def tensor(location: str) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="offset", value="0")
    made.external_data.add(key="location", value=location)
    return made


def graph(*initializers: TensorProto, nodes: tuple[onnx.NodeProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [], list(initializers))


def field(number: int, data: bytes) -> bytes:
    """A protobuf field that holds bytes."""
    length, size = b"", len(data)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def everywhere() -> onnx.ModelProto:
    """A model with tensors wherever a message can hold one."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor("attribute"))
    several = helper.make_node("X", [], ["x"])
    several.attribute.add(name="tensors", type=onnx.AttributeProto.TENSORS, tensors=[tensor("attributes")])
    sparse = onnx.SparseTensorProto(values=tensor("values"), indices=tensor("indices"), dims=[1])
    several.attribute.add(name="s", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    several.attribute.add(name="ss", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse])
    branch = helper.make_node(
        "If", ["c"], ["y"], then_branch=graph(tensor("then")), else_branch=graph(nodes=(constant,))
    )
    several.attribute.add(name="gs", type=onnx.AttributeProto.GRAPHS, graphs=[graph(tensor("graphs"))])
    model = helper.make_model(graph(tensor("initializer"), nodes=(constant, several, branch)))
    model.graph.sparse_initializer.add().CopyFrom(
        onnx.SparseTensorProto(values=tensor("sparse"), indices=tensor("sparse-indices"))
    )
    body = helper.make_node("Constant", [], ["c"], value=tensor("function"))
    function = model.functions.add(name="f", domain="d")
    function.node.add().CopyFrom(body)
    function.attribute_proto.add(name="a", type=onnx.AttributeProto.TENSOR, t=tensor("function-attribute"))
    model.training_info.add().algorithm.CopyFrom(graph(tensor("training")))
    model.training_info[0].initialization.CopyFrom(graph(tensor("training-initialization")))
    return model


def test_every_place_of_a_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(everywhere().SerializeToString())
    assert external_locations(path) == {
        "attribute",
        "attributes",
        "values",
        "indices",
        "then",
        "graphs",
        "initializer",
        "sparse",
        "sparse-indices",
        "function",
        "function-attribute",
        "training",
        "training-initialization",
    }


def test_a_message_that_holds_tensors_is_known() -> None:
    """Every field of onnx.proto from which a tensor can be reached, by onnx's own description."""
    from ridgeline_export.external_data import _FIELDS

    names = {
        "ModelProto": "model",
        "GraphProto": "graph",
        "TrainingInfoProto": "training",
        "FunctionProto": "function",
        "NodeProto": "node",
        "AttributeProto": "attribute",
        "SparseTensorProto": "sparse",
        "TensorProto": "tensor",
    }
    pending, seen = [onnx.ModelProto.DESCRIPTOR], set()
    while pending:
        message = pending.pop()
        if message.name in seen:
            continue
        seen.add(message.name)
        pending += [field.message_type for field in message.fields if field.message_type]
        if message.name in names:
            inner = {
                f.number: names[f.message_type.name]
                for f in message.fields
                if f.message_type and f.message_type.name in names
            }
            if message.name == "TensorProto":
                inner = {message.fields_by_name["external_data"].number: "entry"}
            assert _FIELDS[names[message.name]] == inner
    assert set(names) <= seen


@given(st.binary(max_size=200) | st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=3)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_graph_or_refused(
    tmp_path_factory: pytest.TempPathFactory, change: bytes | tuple[int, bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    data = everywhere().SerializeToString()
    path.write_bytes(change if isinstance(change, bytes) else data[: change[0]] + change[1] + data[change[0] + 1 :])
    try:
        external_locations(path)
    except ValueError as error:
        assert str(error)


def test_a_graph_within_graphs_within_graphs_is_refused(tmp_path: Path) -> None:
    data = tensor("deep").SerializeToString()
    for _ in range(40):
        for number in (5, 1, 6):  # an attribute of a node, in a graph, of an attribute
            data = field(number, data)
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, field(1, field(5, data))))
    with pytest.raises(ValueError, match="nested too deeply"):
        external_locations(path)


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change_manifest(bundle: Path, **fields: object) -> None:
    """Change fields of the fp32 variant, and have the checksums be right."""
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    variant = manifest["variants"]["fp32"]
    variant.update(fields)
    for name in variant["files"]:
        data = (bundle / name).read_bytes()
        variant["files"][name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../../secret", "../config.json", "", ".", "unlisted", "a/../../../x"]
)
def test_weights_outside_of_the_listed_files_are_refused(bundle: Path, location: str) -> None:
    (bundle / "fp32" / "unlisted").write_bytes(b"1234")
    model = onnx.load(bundle / GRAPH, load_external_data=False)
    model.graph.initializer.append(tensor(location))
    (bundle / GRAPH).write_bytes(model.SerializeToString())
    change_manifest(bundle)
    with pytest.raises(BundleCorruptError, match=r"has weights in .*, which is not among the files of variant fp32"):
        read_bundle(bundle).verify("fp32")


@pytest.mark.parametrize("path", ["../elsewhere/model.onnx", "/etc/passwd", "fp32/other.onnx", "config.json"])
def test_a_graph_that_is_not_listed_is_refused(bundle: Path, path: str) -> None:
    change_manifest(bundle, graph=path)
    with pytest.raises(BundleCorruptError, match="not among its files"):
        read_bundle(bundle).verify("fp32")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", GRAPH, "fp32/model.onnx.data"])
def test_links_out_of_the_bundle_are_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    shutil.move(bundle / name, outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(BundleCorruptError, match="outside"):
        read_bundle(bundle).verify()
    manifest = json.loads((bundle / MANIFEST_NAME).read_text())
    manifest["files"].pop(name, None)
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(BundleCorruptError, match="outside"):
        read_bundle(bundle).verify()


def test_a_link_in_a_circle_is_refused(bundle: Path) -> None:
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to("config.json")
    with pytest.raises(BundleCorruptError):
        read_bundle(bundle).verify()


def test_a_graph_of_something_else_is_refused(bundle: Path) -> None:
    (bundle / GRAPH).write_bytes(b"\xff" * 100)
    change_manifest(bundle)
    with pytest.raises(BundleCorruptError, match="is no ONNX graph"):
        read_bundle(bundle).verify("fp32")
