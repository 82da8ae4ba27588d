"""What is no packed graph is refused in one sentence that names the node."""

from __future__ import annotations

import re
from collections.abc import Callable

import onnx_ir
import pytest

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.check import check_ops, check_packed
from ridgeline_export.packed.dialect import dialect
from ridgeline_export.packed.signature import BODIES

HEAD = '<ir_version: 10, opset_import: ["": 20, "ridgeline": 1]>'
INPUTS = "int64[1, tokens] input_ids, int64[1, tokens] position_ids, int32[bounds] cu_seqlens"
OUTPUTS = "float[1, tokens, 8] last_hidden_state"
WEIGHTS = "float[30, 8] word, float[8] bias, float16[8] half, float[6] short, float[1, tokens, 8] x"


def graph(nodes: str, inputs: str = INPUTS, outputs: str = OUTPUTS, head: str = HEAD) -> onnx_ir.Model:
    """A graph of the nodes, which may read what WEIGHTS names."""
    program = onnx_ir.from_onnx_text(f"{head} packed ({inputs}, {WEIGHTS}) => ({outputs}) {{ {nodes} }}")
    weights = {part.split()[-1] for part in WEIGHTS.split(", ")}
    kept = [value for value in program.graph.inputs if value.name not in weights]
    program.graph.inputs.clear()
    program.graph.inputs.extend(kept)
    return program


SOUND = "last_hidden_state = ridgeline.EmbeddingLayerNorm(input_ids, word, , , , , bias, bias)"


@pytest.mark.parametrize(
    ("shape", "node"),
    [
        ("last = ReduceMax(cu_seqlens) one = Cast<to = 7>(last) many = Range(zero, one, step)", "Range node 'many'"),
        ("many = NonZero(input_ids)", "NonZero node 'many'"),
        ("best = ReduceMax(input_ids) k = Squeeze(best) many, places = TopK(bias, k)", "TopK node 'many'"),
        ("most = ReduceMax(position_ids) many = Expand(bias, most)", "Expand node 'many'"),
    ],
)
def test_a_shape_by_what_the_tokens_are_is_refused(shape: str, node: str) -> None:
    sentence = re.escape(f"{node} makes a shape of the values of '")
    with pytest.raises(ConversionError, match=sentence):
        check_packed(graph(f"{SOUND} {shape}"))


def test_a_shape_by_the_number_of_tokens_passes() -> None:
    check_packed(graph(f"{SOUND} size = Shape(input_ids) many = Expand(position_ids, size) n = Size(many)"))


def test_every_op_of_the_law_has_a_body() -> None:
    assert set(BODIES) == set(dialect().ops)


def test_a_sound_graph_passes() -> None:
    check_packed(graph(SOUND))


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (
            "y = ridgeline.Softmax(x)",
            "Softmax node 'y' is no op of the dialect's version 2, which has ",
        ),
        ("y = ridgeline.Linear(x)", "Linear node 'y' lacks 'weight', which every Linear needs"),
        ("y = ridgeline.Linear(x, , bias)", "Linear node 'y' lacks 'weight'"),
        ("y = ridgeline.QuantizeRows(x, bias)", "QuantizeRows node 'y' has 2 inputs; QuantizeRows has at most 1: x"),
        ("y = ridgeline.QuantizeRows(x)", "QuantizeRows node 'y' lacks 'scale'"),
        (
            'y = ridgeline.Linear<activation = "mish">(x, word)',
            "has activation = mish; allowed are none, relu, gelu, gelu_tanh, silu, tanh, sigmoid",
        ),
        ("y = ridgeline.Linear<alpha = 1>(x, word)", "has an attribute 'alpha', which Linear does not know; it knows"),
        ("y = ridgeline.Linear<activation = 1>(x, word)", "'activation' of type INT; it must be of type STRING"),
        ("y = ridgeline.PackedAttention(x, x, x, cu_seqlens)", "lacks the attribute 'scale'"),
        (
            "y = ridgeline.PackedAttention<scale = 1.0, window_left = -2>(x, x, x, cu_seqlens)",
            "has window_left = -2; it must be at least -1",
        ),
        (
            "y = ridgeline.PackedAttention<scale = 1.0, softcap = -1.0>(x, x, x, cu_seqlens)",
            "has softcap = -1.0; it must be at least 0",
        ),
        (
            "y = ridgeline.NystromAttention<scale = 1.0, landmarks = 129>(x, x, x, cu_seqlens)",
            "has landmarks = 129; it must be at most 128",
        ),
        (
            "y = ridgeline.LshAttention<scale = 1.0, chunk = 8, key_chunks = 2>(x, x, x, cu_seqlens, x)",
            "has chunk = 8; allowed are 16, 32, 64, 128",
        ),
        ("y = ridgeline.LinformerAttention<scale = 1.0>(x, x, x, cu_seqlens)", "lacks 'key_projection'"),
        ("y = ridgeline.AddNorm(x, , half)", "has 'weight' of type FLOAT16 and 'x' of type FLOAT; they must be one"),
        ("y = ridgeline.AddNorm(input_ids)", "has 'x' of type INT64; allowed are FLOAT, FLOAT16, BFLOAT16"),
        ("y = ridgeline.Pool(x, input_ids)", "has 'cu_seqlens' of type INT64; it must be INT32"),
        ("y = ridgeline.Linear(bias, word)", "has 'x' of 1 axes; it must be [1, tokens, in]"),
        ("y = ridgeline.Linear(x, word, short)", "has 'bias' with out = 6, but 'weight' has out = 30"),
        (
            "y = ridgeline.EmbeddingLayerNorm(input_ids, word, , word)",
            "has 'position' without 'position_ids': give both or neither",
        ),
        (
            "y = ridgeline.EmbeddingLayerNorm(input_ids, word, , , input_ids)",
            "has 'token_type_ids' without 'token_type'",
        ),
        (
            "y = com.microsoft.BiasGelu(x, bias)",
            "BiasGelu node 'y' is of the domain 'com.microsoft'; a packed",
        ),
    ],
)
def test_a_node_against_the_law(node: str, sentence: str) -> None:
    with pytest.raises(ConversionError) as caught:
        check_ops(graph(node))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("the packed graph's ")
    assert "\n" not in str(caught.value)


def test_a_scale_is_finite() -> None:
    program = graph("y = ridgeline.PackedAttention<scale = 1.0>(x, x, x, cu_seqlens)")
    for value in program.graph[0].inputs[:3]:
        assert value is not None
        value.shape = onnx_ir.Shape([1, "tokens", 2, 4])
    check_ops(program)
    program.graph[0].attributes["scale"] = onnx_ir.AttrFloat32("scale", float("nan"))
    with pytest.raises(ConversionError, match="has scale = nan; it must be finite"):
        check_ops(program)


def test_heads_are_a_multiple_of_kv_heads() -> None:
    program = graph("y = ridgeline.PackedAttention<scale = 1.0>(x, k, k, cu_seqlens)")
    for value, heads in zip(program.graph[0].inputs, (4, 3), strict=False):
        assert value is not None
        value.shape = onnx_ir.Shape([1, "tokens", heads, 4])
    with pytest.raises(ConversionError, match="has 4 heads and 3 kv_heads"):
        check_ops(program)


def test_tables_are_for_one_head_or_for_all() -> None:
    node = "y = ridgeline.LinformerAttention<scale = 1.0>(x, x, x, cu_seqlens, k)"
    program = graph(node, head=HEAD.replace('"ridgeline": 1', '"ridgeline": 2'))
    values = program.graph[0].inputs
    for value, shape in ((values[0], [1, "tokens", 4, 8]), (values[4], [4, 9, 2])):
        assert value is not None
        value.shape = onnx_ir.Shape(shape)
    for heads, is_sound in ((4, True), (1, True), (2, False)):
        assert values[4] is not None
        values[4].shape = onnx_ir.Shape([heads, 9, 2])
        if is_sound:
            check_ops(program)
        else:
            with pytest.raises(ConversionError, match="'key_projection' for 2 heads, but 'q' has heads = 4; give 1 or"):
                check_ops(program)


def test_an_op_of_a_later_version_than_the_graphs() -> None:
    program = graph("y = ridgeline.LocalGlobalAttention<scale = 1.0, window = 1>(q, q, q, cu_seqlens)")
    sentence = "LocalGlobalAttention node 'y' is an op since version 2 of the dialect, and the graph imports version 1"
    with pytest.raises(ConversionError, match=sentence):
        check_ops(program)


def test_nodes_inside_branches_are_checked() -> None:
    program = graph(
        "c = Constant<value_int = 1>() t = Cast<to = 9>(c) "
        "y = If<then_branch = g () => (float[a] z) { z = ridgeline.Nothing(x) }, "
        "else_branch = h () => (float[a] w) { w = Identity(bias) }>(t)"
    )
    with pytest.raises(ConversionError, match="Nothing node 'z' is no op"):
        check_ops(program)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: graph(SOUND, head='<ir_version: 10, opset_import: ["": 18, "ridgeline": 1]>'),
            "imports opset 18; the dialect's bodies are of opset 20",
        ),
        (
            lambda: graph(SOUND, head='<ir_version: 10, opset_import: ["": 20, "ridgeline": 3]>'),
            "imports version 3 of the domain 'ridgeline'; this Ridgeline knows versions up to 2",
        ),
        (lambda: graph(SOUND, inputs=f"{INPUTS}, float[1] mask"), "has an input 'mask'; the dialect's are input_ids, "),
        (lambda: graph(SOUND, inputs="int64[1, tokens] input_ids"), "has no input 'cu_seqlens'"),
        (
            lambda: graph(SOUND, inputs="int32[1, tokens] input_ids, int32[bounds] cu_seqlens"),
            "input 'input_ids' is of type INT32; it must be INT64",
        ),
        (
            lambda: graph(SOUND, inputs="int32[bounds] cu_seqlens, int64[1, tokens] input_ids"),
            "inputs are in the order cu_seqlens, input_ids; it must be input_ids, cu_seqlens",
        ),
        (
            lambda: graph(SOUND.replace("last_hidden_state", "y"), outputs="float[1, tokens, 8] y"),
            "gives y, which is no task's (feature-extraction: pooled, ",
        ),
        (
            lambda: graph(SOUND, outputs="float[tokens, 8] last_hidden_state"),
            "output 'last_hidden_state' has 2 axes; it must be [1, tokens, dim]",
        ),
        (
            lambda: graph(SOUND, outputs="float16[1, tokens, 8] last_hidden_state"),
            "output 'last_hidden_state' is of type FLOAT16; it must be FLOAT",
        ),
    ],
)
def test_a_graph_against_the_law(make: Callable[[], onnx_ir.Model], sentence: str) -> None:
    with pytest.raises(ConversionError) as caught:
        check_packed(make())
    assert sentence in str(caught.value)
