"""Files that are no graphs, and graphs that cannot run what is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ridgeline_estimate import EstimateError
from ridgeline_estimate.errors import GraphError
from ridgeline_estimate.graph import graph_ops, read_graph
from ridgeline_estimate.op import add_up
from ridgeline_estimate.workload import Mode, Workload
from tests.estimate.graphs import FLOAT, INT64, node, write_graph, zeros


def write_encoder(path: Path) -> Path:
    inputs = {"input_ids": (INT64, ("batch", "sequence"))}
    nodes = [node("Gather", "table input_ids", "x"), node("MatMul", "x w", "y")]
    return write_graph(path / "model.onnx", nodes, inputs, ["y"], {"table": zeros(60, 32), "w": zeros(32, 32)})


def test_bad_files_get_a_sentence(tmp_path: Path) -> None:
    good = write_encoder(tmp_path)
    truncated, text, empty = (tmp_path / name for name in ("cut.onnx", "text.onnx", "empty.onnx"))
    truncated.write_bytes(good.read_bytes()[:-500])
    text.write_text("not a graph at all\n" * 50)
    empty.write_bytes(b"")
    for path, message in [
        (tmp_path / "absent.onnx", "there is no file .*absent.onnx; give the path"),
        (tmp_path, "is a directory; give the path"),
        (truncated, "is not an ONNX graph, or it is cut short"),
        (text, "not an ONNX graph"),
        (empty, "holds no ONNX graph"),
    ]:
        with pytest.raises(GraphError, match=message) as caught:
            graph_ops(path, Workload())
        assert isinstance(caught.value, EstimateError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("workload", "message"),
    [
        (Workload(mode=Mode.TRAIN), "no backward pass; estimate training from the model's config"),
        (Workload(mode=Mode.DECODE, past=9), "no inputs for a KV cache"),
        (Workload(past=9), "no inputs for a KV cache"),
    ],
)
def test_workloads_that_a_graph_cannot_run(workload: Workload, message: str, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=message):
        graph_ops(write_encoder(tmp_path), workload)


def test_sizes_that_the_file_fixes_are_asked_for(tmp_path: Path) -> None:
    inputs = {"input_ids": (INT64, (1, 128))}
    path = write_graph(
        tmp_path / "g.onnx", [node("Gather", "table input_ids", "y")], inputs, ["y"], {"table": zeros(9, 4)}
    )
    assert len(graph_ops(path, Workload(1, 128))) == 1
    with pytest.raises(
        GraphError, match="fixes axis 1 of input 'input_ids' to 128 tokens, 64 were asked for; choose seq"
    ):
        graph_ops(path, Workload(1, 64))
    with pytest.raises(GraphError, match="choose batch 1"):
        graph_ops(path, Workload(2, 128))


def test_weights_may_be_absent(tmp_path: Path) -> None:
    """A graph whose weights lie beside it is counted without them, shapes in the weights' file aside."""
    path = write_encoder(tmp_path)
    whole = read_graph(path)
    expected = whole.count(Workload(2, 7)).ops
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    assert read_graph(path).count(Workload(2, 7)).ops == expected
    (tmp_path / "weights").unlink()
    alone = read_graph(path)
    assert alone.count(Workload(2, 7)).ops == expected
    assert alone.weight_bytes == whole.weight_bytes == (60 * 32 + 32 * 32) * 4


def test_graphs_past_two_gigabytes(tmp_path: Path) -> None:
    """12 GB of weights, of which not one byte is there."""
    nodes = [node("Gather", "table input_ids", "x"), node("MatMul", "x w", "y")]
    inputs = {"input_ids": (INT64, ("batch", "sequence"))}
    path = write_graph(tmp_path / "g.onnx", nodes, inputs, ["y"], {"table": zeros(1, 1), "w": zeros(1, 1)})
    model = onnx.load(path)
    for tensor, shape in zip(model.graph.initializer, ((250_000, 8192), (8192, 131_072)), strict=True):
        tensor.ClearField("raw_data")
        tensor.dims[:] = shape
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "far", "offset": "0", "length": str(4 * shape[0] * shape[1])}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
    onnx.save(model, path)
    graph = read_graph(path)
    sums = add_up(graph.count(Workload(1, 10)).ops)
    assert sums.matmul_flops == 2 * 10 * 8192 * 131_072
    assert graph.weight_bytes == 4 * (250_000 * 8192 + 8192 * 131_072) and sums.parameters * 4 == graph.weight_bytes


def test_an_input_that_nobody_knows_is_said(tmp_path: Path) -> None:
    inputs = {"x": (FLOAT, ("batch", "sequence", "width"))}
    path = write_graph(tmp_path / "g.onnx", [node("Relu", "x", "y")], inputs, ["y"], {"w": np.zeros(1)})
    found = read_graph(path).count(Workload(2, 3))
    assert found.ops[0].output == (2, 3, 1)
    assert found.warnings == ("axis 2 (width) of input 'x' is neither batch nor tokens; it counts as 1",)
