"""Bodies attached to a graph and put in the ops' places: names, sharing, files that pass ONNX's checker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.check import check_packed
from ridgeline_export.packed.inline import inline

GRAPH = """<ir_version: 10, opset_import: ["": 20, "ridgeline": 1]>
packed (int64[1, tokens] input_ids, int64[1, tokens] position_ids, int32[bounds] cu_seqlens,
        float[30, 8] word, float[20, 8] position, float[8] scale, float[8] shift, float[24, 8] qkv, float[8, 8] mix)
    => (float[sequences, 8] pooled, float[1, tokens, 8] last_hidden_state)
{
    x = ridgeline.EmbeddingLayerNorm<epsilon = 0.0001>(input_ids, word, position_ids, position, , , scale, shift)
    heads = Constant<value_ints = [1, -1, 6, 4]>()
    flat = Constant<value_ints = [1, -1, 8]>()
    a = ridgeline.Linear(x, qkv)
    b = Reshape(a, heads)
    q, k, v = Split<axis = 2, num_outputs = 3>(b)
    c = ridgeline.PackedAttention<scale = 0.5>(q, k, v, cu_seqlens)
    d = Reshape(c, flat)
    e = ridgeline.Linear<activation = "gelu">(d, mix, shift)
    f, s = ridgeline.AddNorm(e, x, scale, shift)
    g = ridgeline.Linear<activation = "gelu">(f, mix, shift)
    h = ridgeline.PackedAttention<scale = 0.25, window_left = 1, window_right = 1>(q, k, v, cu_seqlens)
    i = Reshape(h, flat)
    j = Add(g, i)
    last_hidden_state = ridgeline.AddNorm<kind = "rms">(j, s, scale)
    pooled = ridgeline.Pool<normalize = 1>(last_hidden_state, cu_seqlens)
}"""


@pytest.fixture
def program() -> onnx_ir.Model:
    """An encoder with every kind of op of float32 graphs, and random weights."""
    made = onnx_ir.from_onnx_text(GRAPH)
    rng = np.random.default_rng(0)
    for value in made.graph.inputs[3:]:
        assert value.shape is not None
        value.const_value = onnx_ir.tensor(rng.normal(size=value.shape.numpy()).astype(np.float32), name=value.name)
        made.graph.initializers.add(value)
    del made.graph.inputs[3:]
    return made


@pytest.fixture
def feed() -> dict[str, np.ndarray]:
    """A batch of three sequences, one of them empty."""
    ids = np.random.default_rng(1).integers(0, 30, (1, 9))
    positions = np.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    return {"input_ids": ids, "position_ids": positions, "cu_seqlens": np.array([0, 4, 4, 9], np.int32)}


def run(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    results: list[np.ndarray] = onnxruntime.InferenceSession(path, options).run(None, feed)
    return results


def overloads(program: onnx_ir.Model) -> list[str]:
    return [f"{node.op_type}:{node.overload}" for node in program.graph if node.domain == "ridgeline"]


def test_overloads_name_what_a_node_has(program: onnx_ir.Model) -> None:
    attach_bodies(program)
    assert overloads(program) == [
        "EmbeddingLayerNorm:position_ids,position,weight,bias,normalize",
        "Linear:",
        "PackedAttention:",
        "Linear:bias,gelu",
        "AddNorm:residual,weight,bias,layer,sum",
        "Linear:bias,gelu",
        "PackedAttention:window_left,window_right",
        "AddNorm:residual,weight,rms",
        "Pool:mean,normalize",
    ]
    assert len(program.functions) == 8


def test_attaching_twice_changes_nothing(program: onnx_ir.Model) -> None:
    attach_bodies(program)
    once = onnx_ir.to_proto(program)
    attach_bodies(program)
    assert onnx_ir.to_proto(program) == once


def test_attached_and_inlined_files_pass_the_checker_and_agree(
    program: onnx_ir.Model, feed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    attach_bodies(program)
    check_packed(program)
    attached, inlined = tmp_path / "attached.onnx", tmp_path / "inlined.onnx"
    onnx_ir.save(program, attached, external_data="attached.onnx.data", size_threshold_bytes=0)
    weights = [value.const_value for value in program.graph.initializers.values()]
    inline(program)
    assert [value.const_value for value in program.graph.initializers.values()] == weights
    assert [value.name for value in program.graph.outputs] == ["pooled", "last_hidden_state"]
    assert not program.functions
    assert {node.domain for node in program.graph} == {""}
    assert set(program.opset_imports) == {""}
    onnx_ir.save(program, inlined, external_data="inlined.onnx.data", size_threshold_bytes=0)
    for path in (attached, inlined):
        onnx.checker.check_model(path, full_check=True)
        assert path.with_suffix(".onnx.data").stat().st_size >= sum(tensor.nbytes for tensor in weights if tensor)
    for found, wanted in zip(run(inlined, feed), run(attached, feed), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_batch_is_its_sequences_one_by_one(
    program: onnx_ir.Model, feed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    attach_bodies(program)
    onnx_ir.save(program, tmp_path / "model.onnx")
    pooled, hidden = run(tmp_path / "model.onnx", feed)
    assert (pooled[1] == 0).all()
    for index, part in ((0, slice(0, 4)), (2, slice(4, 9))):
        alone = {name: feed[name][:, part] for name in ("input_ids", "position_ids")}
        alone["cu_seqlens"] = np.array([0, part.stop - part.start], np.int32)
        one_pooled, one_hidden = run(tmp_path / "model.onnx", alone)
        np.testing.assert_allclose(pooled[index], one_pooled[0], atol=1e-5)
        np.testing.assert_allclose(hidden[:, part], one_hidden, atol=1e-5)


def test_parts_that_bodies_share_are_inlined_once(program: onnx_ir.Model) -> None:
    inline(program)
    # The two attentions' positions and the pooling's, which are counted from another tensor.
    assert sum(node.op_type == "Range" for node in program.graph) == 2


def test_a_node_against_the_schema_gets_no_body(program: onnx_ir.Model) -> None:
    node = next(node for node in program.graph if node.op_type == "Pool")
    node.attributes["method"] = onnx_ir.AttrString("method", "median")
    with pytest.raises(ConversionError, match="Pool node 'pooled' has method = median; allowed are mean, first"):
        attach_bodies(program)
