"""Files that cannot be used: each gets one sentence that says what is wrong and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ridgeline_kernels.errors import (
    ForeignGraphError,
    GraphError,
    GraphFileError,
    InvalidGraphError,
    NewerDialectError,
    UnsupportedOpError,
)
from ridgeline_kernels.packed.reading import GRAPH_INPUTS, read_graph
from tests.kernels.packed.dialect_graphs import DIM, bert, graph_of, save

WEIGHTS = {
    "word": np.ones((40, DIM), np.float32),
    "w": np.ones((DIM, DIM), np.float32),
    "types": np.ones((2, DIM), np.float32),
}
EMBED = "h = ridgeline.EmbeddingLayerNorm (input_ids, word)"


def refused(path: Path, error: type[GraphError], says: str) -> None:
    """The file is refused with one sentence."""
    with pytest.raises(error, match=says) as caught:
        read_graph(path)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def text_refused(directory: Path, nodes: str, error: type[GraphError], says: str, **options: str) -> None:
    """The graph of these nodes, an embedding before them, is refused."""
    refused(save(graph_of(f"{EMBED}\n{nodes}", weights=WEIGHTS, **options), directory), error, says)


def test_reads_what_is_there(tmp_path: Path) -> None:
    graph = read_graph(save(bert(), tmp_path))
    assert list(graph.inputs) == ["input_ids", "position_ids", "cu_seqlens"]
    assert {name: value.shape for name, value in graph.outputs.items()} == {
        "last_hidden_state": (1, "tokens", DIM),
        "pooled": ("sequences", DIM),
    }
    attention = next(node for node in graph.nodes if node.op_type == "PackedAttention")
    assert attention.attributes == {
        "scale": pytest.approx(0.35),
        "causal": 0,
        "window_left": -1,
        "window_right": -1,
        "softcap": 0.0,
    }


def test_the_inputs_are_the_laws() -> None:
    import json

    law = json.loads((Path(__file__).parents[3] / "docs" / "dialect.json").read_text())
    assert {entry["name"]: f"torch.{entry['type']}" for entry in law["graph"]["inputs"]} == {
        name: str(dtype) for name, dtype in GRAPH_INPUTS.items()
    }


class TestFile:
    def test_missing(self, tmp_path: Path) -> None:
        refused(tmp_path / "nowhere.onnx", GraphFileError, "nowhere.onnx cannot be read: No such file")
        refused(tmp_path, GraphFileError, "model.onnx cannot be read: No such file")

    @pytest.mark.parametrize("content", [b"", b"%PDF-1.7 and so on", b"\x08\x0a"], ids=["empty", "pdf", "no graph"])
    def test_no_onnx(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        refused(path, GraphFileError, "is no ONNX file, or was cut short")

    def test_cut_short_anywhere(self, tmp_path: Path) -> None:
        path = save(bert(1), tmp_path)
        whole = path.read_bytes()
        for size in (1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 20, len(whole) - 1):
            path.write_bytes(whole[:size])
            with pytest.raises(GraphError) as caught:
                read_graph(path)
            assert "\n" not in str(caught.value)


class TestWeights:
    def test_missing(self, tmp_path: Path) -> None:
        path = save(bert(1), tmp_path, beside=True)
        (tmp_path / "model.onnx.data").unlink()
        refused(path, GraphFileError, "model.onnx.data, which is missing: copy it there")

    def test_too_short(self, tmp_path: Path) -> None:
        path = save(bert(1), tmp_path, beside=True)
        data = tmp_path / "model.onnx.data"
        size = data.stat().st_size
        os.truncate(data, size - 100)
        refused(path, GraphFileError, rf"has {size - 100} bytes and the weight '.*' needs \d+: the file was cut short")

    @pytest.mark.parametrize("location", ["../stolen.data", "/etc/passwd", "deep/../../stolen.data", ""])
    def test_outside(self, tmp_path: Path, location: str) -> None:
        inside = tmp_path / "bundle"
        inside.mkdir()
        (tmp_path / "stolen.data").write_bytes(b"0" * 10**5)
        self._point(save(bert(1), inside, beside=True), location)
        refused(inside / "model.onnx", GraphFileError, "weights must be in the graph's directory")

    def test_outside_by_a_link(self, tmp_path: Path) -> None:
        inside = tmp_path / "bundle"
        inside.mkdir()
        path = save(bert(1), inside, beside=True)
        (inside / "model.onnx.data").rename(tmp_path / "elsewhere.data")
        (inside / "model.onnx.data").symlink_to(tmp_path / "elsewhere.data")
        refused(path, GraphFileError, "weights must be in the graph's directory")

    def test_wrong_length(self, tmp_path: Path) -> None:
        path = save(bert(1), tmp_path, beside=True)
        self._change(path, "length", "12")
        refused(path, InvalidGraphError, "has 12 bytes at offset 0 .* needs 2560: export the model again")

    @pytest.mark.parametrize("offset", ["-4", "many"])
    def test_wrong_offset(self, tmp_path: Path, offset: str) -> None:
        path = save(bert(1), tmp_path, beside=True)
        self._change(path, "offset", offset)
        refused(path, InvalidGraphError, f"offset '?{offset}")

    def test_too_few_inside(self, tmp_path: Path) -> None:
        model = graph_of(EMBED.replace("h =", "last_hidden_state ="), weights=WEIGHTS)
        model.graph.initializer[0].raw_data = b"1234"
        refused(save(model, tmp_path), InvalidGraphError, "the weight 'word' holds 4 bytes, .* needs 2560")

    def test_of_a_dtype_that_is_not_ours(self, tmp_path: Path) -> None:
        model = graph_of(EMBED.replace("h =", "last_hidden_state ="), weights=WEIGHTS)
        model.graph.initializer.append(helper.make_tensor("names", TensorProto.STRING, [1], [b"x"]))
        refused(save(model, tmp_path), UnsupportedOpError, "the weight 'names' has the dtype STRING, .* takes FLOAT")

    def _point(self, path: Path, location: str) -> None:
        self._change(path, "location", location)

    @staticmethod
    def _change(path: Path, key: str, value: str) -> None:
        proto = onnx.load(path, load_external_data=False)
        for initializer in proto.graph.initializer:
            for entry in initializer.external_data:
                if entry.key == key:
                    entry.value = value
        onnx.save(proto, path)


class TestDialect:
    def test_not_ours(self, tmp_path: Path) -> None:
        model = graph_of("last_hidden_state = Gather (word, input_ids)", weights=WEIGHTS, opsets='"": 20')
        says = "not ours: it does not import the domain ridgeline; export a packed variant"
        refused(save(model, tmp_path), ForeignGraphError, says)

    def test_newer(self, tmp_path: Path) -> None:
        says = "is of version 3 of the dialect, and this code knows versions up to 2: upgrade ridgeline"
        text_refused(tmp_path, "last_hidden_state = Neg (h)", NewerDialectError, says, opsets='"": 20, "ridgeline": 3')

    def test_another_opset(self, tmp_path: Path) -> None:
        says = "imports opset 17 of ONNX, and packed graphs have opset 20"
        text_refused(tmp_path, "last_hidden_state = Neg (h)", InvalidGraphError, says, opsets='"": 17, "ridgeline": 1')

    @pytest.mark.parametrize(
        ("inputs", "says"),
        [
            ("int64[1, tokens] ids", "has the input 'ids'; a packed graph has inputs among input_ids"),
            ("float[1, tokens] input_ids", "input_ids of torch.float32 .* it must be torch.int64 of 2 axes"),
            ("int64[tokens] input_ids", "it must be torch.int64 of 2 axes"),
            ("int64[bounds] cu_seqlens", "it must be torch.int32 of 1 axes"),
        ],
    )
    def test_inputs(self, tmp_path: Path, inputs: str, says: str) -> None:
        model = graph_of("last_hidden_state = Neg (word)", weights=WEIGHTS, inputs=inputs)
        refused(save(model, tmp_path), InvalidGraphError, says)


def _constant(make: Callable[[], onnx.NodeProto]) -> onnx.ModelProto:
    model = graph_of(f"{EMBED}\nlast_hidden_state = Mul (h, c)", weights=WEIGHTS)
    model.graph.node.insert(0, make())
    return model


def test_constant_nodes(tmp_path: Path) -> None:
    for given, dtype in (({"value_int": 3}, "int64"), ({"value_floats": [3.0]}, "float32")):
        graph = read_graph(
            save(_constant(lambda given=given: helper.make_node("Constant", [], ["c"], **given)), tmp_path)
        )
        assert str(graph.constants["c"].dtype) == f"torch.{dtype}"
        assert graph.constants["c"].read().flatten().tolist() == [3]
    says = "gives its value by the attribute value_string"
    refused(
        save(_constant(lambda: helper.make_node("Constant", [], ["c"], value_string="x")), tmp_path),
        UnsupportedOpError,
        says,
    )
    says = "has 0 attributes and must have one: its value"
    refused(save(_constant(lambda: helper.make_node("Constant", [], ["c"])), tmp_path), InvalidGraphError, says)


def test_a_graph_as_an_attribute_is_refused(tmp_path: Path) -> None:
    model = graph_of("[n] last_hidden_state = Neg (word)", weights=WEIGHTS)
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", branch))
    refused(save(model, tmp_path), UnsupportedOpError, "node 'n' .* has the attribute body of a kind")


def test_typed_fields_are_read(tmp_path: Path) -> None:
    model = graph_of(f"{EMBED}\nlast_hidden_state = Neg (h)", weights={})
    values = np.arange(40 * DIM, dtype=np.float32).reshape(40, DIM)
    for dtype in (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.INT8,
        TensorProto.FLOAT8E4M3FN,
    ):
        del model.graph.initializer[:]
        flat = (values % 100).flatten()
        model.graph.initializer.append(helper.make_tensor("word", dtype, [40, DIM], flat.tolist()))
        held = read_graph(save(model, tmp_path)).constants["word"].read()
        wanted = np.asarray(onnx.numpy_helper.to_array(model.graph.initializer[0])).astype(np.float32)
        assert np.array_equal(held.float().numpy(), wanted), dtype
