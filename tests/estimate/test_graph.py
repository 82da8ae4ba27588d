"""Each family of ops on graphs whose cost is worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from ridgeline_estimate.graph import Cost, GraphCount, GraphWarning, graph_ops, handles, read_graph, registry, shapes
from ridgeline_estimate.graph.model import Call
from ridgeline_estimate.graph.registry import Outputs
from ridgeline_estimate.op import Op, add_up, add_up_by
from ridgeline_estimate.workload import Mode, Workload
from tests.estimate.graphs import FLOAT, INT64, UINT8, microsoft, node, write_graph, zeros

B, S, H = 2, 6, 8
STATES = {"x": (FLOAT, ("batch", "sequence", H))}
SCALE, ZERO = np.array(0.1, np.float32), np.array(0, np.uint8)


def count(path: Path, nodes: list[NodeProto], inputs: Any = None, weights: Any = None, **options: Any) -> GraphCount:
    """Count a graph whose last node gives the output, on 2 sequences of 6 tokens."""
    graph = write_graph(path / "g.onnx", nodes, inputs or STATES, [nodes[-1].output[0]], weights, **options)
    return read_graph(graph).count(Workload(B, S))


def only(found: GraphCount) -> Op:
    """The one operation of a graph that has no warnings."""
    (op,) = found.ops
    assert not found.warnings
    return op


def test_a_matmul_with_weights_counts_2mnk_and_its_bytes(tmp_path: Path) -> None:
    op = only(count(tmp_path, [node("MatMul", "x w", "y")], weights={"w": zeros(H, 5)}))
    assert op.matmul_flops == 2 * B * S * H * 5 and op.other_flops == 0
    assert (op.parameters, op.weight_bytes) == (H * 5, H * 5 * 4)
    assert (op.read_bytes, op.written_bytes) == (B * S * H * 4, B * S * 5 * 4)
    assert (op.output, op.dtype) == ((B, S, 5), "fp32")


def test_gemm_takes_its_transposes_and_bias(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "x shape", "flat"),
        node("Gemm", "flat w b", "y", transB=1),
    ]
    weights = {"w": zeros(5, H), "b": zeros(5), "shape": np.array([-1, H])}
    op = only(count(tmp_path, nodes, weights=weights))
    assert (op.matmul_flops, op.other_flops) == (2 * B * S * H * 5, B * S * 5)
    assert (op.parameters, op.vectors) == (H * 5 + 5, 5)


@pytest.mark.parametrize(
    ("equation", "shape", "flops"),
    [
        ("bsh,ho->bso", (H, 5), 2 * B * S * H * 5),
        ("bsh,hd->b s d", (H, 3), 2 * B * S * H * 3),
        ("...h,hd", (H, 3), 2 * B * S * H * 3),
        ("bsh,h->bsh", (H,), 0),
    ],
)
def test_einsum(equation: str, shape: tuple[int, ...], flops: int, tmp_path: Path) -> None:
    op = only(count(tmp_path, [node("Einsum", "x w", "y", equation=equation)], weights={"w": zeros(*shape)}))
    assert op.matmul_flops == flops
    assert op.other_flops == (0 if flops else B * S * H)


def test_convolution_counts_each_place_of_its_result(tmp_path: Path) -> None:
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Conv", "t w b", "y", pads=[1, 1], group=2)]
    _, op = count(tmp_path, nodes, weights={"w": zeros(4, H // 2, 3), "b": zeros(4)}).ops
    assert (op.part, op.matmul_flops, op.other_flops) == ("convolution", 2 * B * S * 4 * (H // 2) * 3, B * S * 4)


@pytest.mark.parametrize(
    ("op_type", "each", "domain", "opset"),
    [
        ("LayerNormalization", 5, "", 18),
        ("Softmax", 5, "", 18),
        ("Gelu", 8, "", 20),
        ("Gelu", 8, "com.microsoft", 18),
        ("Tanh", 1, "", 18),
        ("Sqrt", 1, "", 18),
        ("ReduceMean", 1, "", 18),
        ("SimplifiedLayerNormalization", 4, "", 18),
        ("FastGelu", 8, "com.microsoft", 18),
        ("QuickGelu", 5, "com.microsoft", 18),
    ],
)
def test_elements(op_type: str, each: int, domain: str, opset: int, tmp_path: Path) -> None:
    inputs = "x g" if "Normalization" in op_type else "x"
    op = only(count(tmp_path, [node(op_type, inputs, "y", domain=domain)], weights={"g": zeros(H)}, opset=opset))
    assert op.other_flops == each * B * S * H and op.matmul_flops == 0


def test_rms_norm_and_attention_of_newer_opsets(tmp_path: Path) -> None:
    nodes = [
        node("RMSNormalization", "x g", "n"),
        node("Attention", "n n n", "y", q_num_heads=2, kv_num_heads=2, is_causal=1),
    ]
    found = count(tmp_path, nodes, weights={"g": zeros(H)}, opset=23)
    assert not found.warnings
    norm, scores, softmax, values = found.ops
    pairs = B * 2 * S * S
    assert norm.other_flops == 4 * B * S * H
    assert scores.matmul_flops == values.matmul_flops == 2 * pairs * H // 2
    assert softmax.other_flops == 5 * pairs and softmax.fused
    # Of 6 times 6 scores, 15 lie above the diagonal.
    assert scores.skipped_flops == pytest.approx(scores.matmul_flops * 15 / 36)
    assert [op.part for op in found.ops] == ["norms", "attention_scores", "softmax", "attention_values"]


def test_a_gelu_that_is_written_out_counts_what_its_nodes_sum_to(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "m"),
        node("Div", "m root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "a"),
        node("Mul", "m a", "p"),
        node("Mul", "p half", "y"),
    ]
    scalars = {name: np.array(1, np.float32) for name in ("root", "one", "half")}
    found = count(tmp_path, nodes, weights={"w": zeros(H, 5), **scalars})
    gelu = [op for op in found.ops if op.part == "activations"]
    assert sum(op.other_flops for op in gelu) == 8 * B * S * 5
    assert len(gelu) == 5 and all(op.fused for op in gelu)


def test_views_and_what_is_made_of_weights_alone_cost_nothing(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "w", "t", perm=[1, 0]),
        node("Mul", "t two", "scaled"),
        node("Shape", "x", "size"),
        node("Reshape", "x size", "same"),
        node("MatMul", "same scaled", "y"),
    ]
    op = only(count(tmp_path, nodes, weights={"w": zeros(5, H), "two": np.array(2, np.float32)}))
    assert op.matmul_flops == 2 * B * S * H * 5
    assert (op.parameters, op.weight_bytes) == (5 * H, 5 * H * 4)


def test_weights_that_are_shared_are_owned_once_and_read_twice(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "m"), node("MatMul", "m w", "y")]
    first, second = count(tmp_path, nodes, weights={"w": zeros(H, H)}).ops
    assert (first.parameters, second.parameters) == (H * H, 0)
    assert first.weight_bytes == second.weight_bytes == H * H * 4


def test_a_table_counts_the_rows_that_are_read(tmp_path: Path) -> None:
    ids = {"input_ids": (INT64, ("b", "s"))}
    op = only(count(tmp_path, [node("Gather", "table input_ids", "y")], ids, {"table": zeros(100, H)}))
    assert (op.part, op.flops, op.parameters) == ("embeddings", 0, 100 * H)
    assert (op.weight_bytes, op.read_bytes, op.written_bytes) == (B * S * H * 4, B * S * 8, B * S * H * 4)


def test_dequantized_operands_are_multiplied_as_integers(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "dq"),
        node("DequantizeLinear", "w ws wz", "dw", axis=1),
        node("MatMul", "dq dw", "y"),
    ]
    weights = {
        "w": zeros(H, 5, dtype=np.int8),
        "ws": zeros(5),
        "wz": zeros(5, dtype=np.int8),
        "scale": SCALE,
        "zero": ZERO,
    }
    quantize, product = count(tmp_path, nodes, weights=weights).ops
    assert (quantize.part, quantize.other_flops, quantize.written_bytes) == ("quantization", 2 * B * S * H, B * S * H)
    assert (product.dtype, product.matmul_flops, product.parameters) == ("int8", 2 * B * S * H * 5, H * 5)
    # Weights in 8 bits, a scale of 4 bytes and a zero point of one for each column.
    assert (product.read_bytes, product.weight_bytes) == (B * S * H, H * 5 + 5 * 5)


def test_weights_alone_in_integers_are_multiplied_in_floating_point(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", "w s", "dw"), node("MatMul", "x dw", "y")]
    op = only(count(tmp_path, nodes, weights={"w": zeros(H, 5, dtype=np.int8), "s": SCALE}))
    assert (op.dtype, op.weight_bytes) == ("fp32", H * 5 + 4)


INTEGER_PRODUCTS = {
    "MatMulInteger": (node("MatMulInteger", "q w", "y"), 0),
    "QLinearMatMul": (node("QLinearMatMul", "q s z w s wz s z", "y"), 2),
    "MatMulIntegerToFloat": (microsoft("MatMulIntegerToFloat", "q w s s - - b", "y"), 2),
    "DynamicQuantizeMatMul": (microsoft("DynamicQuantizeMatMul", "x w s - b", "y"), 2),
    "QGemm": (microsoft("QGemm", "q2 s z w s wz", "y"), 0),
}


@pytest.mark.parametrize("name", INTEGER_PRODUCTS)
def test_integer_products(name: str, tmp_path: Path) -> None:
    product, per_element = INTEGER_PRODUCTS[name]
    inputs = STATES | {"q": (UINT8, ("batch", "sequence", H)), "q2": (UINT8, ("batch", H))}
    weights = {"w": zeros(H, 5, dtype=np.int8), "b": zeros(5), "s": SCALE, "z": ZERO, "wz": np.array(0, np.int8)}
    op = only(count(tmp_path, [product], inputs, weights))
    rows = B if name == "QGemm" else B * S
    assert (op.dtype, op.matmul_flops) == ("int8", 2 * rows * H * 5)
    assert op.parameters == H * 5 + (5 if "b" in product.input else 0)
    if name == "DynamicQuantizeMatMul":
        assert op.other_flops == per_element * rows * 5 + 4 * rows * H
    elif name != "QGemm":
        assert op.other_flops == per_element * rows * 5


def test_matmul_n_bits_reads_packed_weights(tmp_path: Path) -> None:
    inputs = {"x": (FLOAT, ("batch", "sequence", 64))}
    weights = {"w": zeros(10, 2, 16, dtype=np.uint8), "scales": zeros(20)}
    product = microsoft("MatMulNBits", "x w scales", "y", K=64, N=10, bits=4, block_size=32, accuracy_level=4)
    op = only(count(tmp_path, [product], inputs, weights))
    assert (op.matmul_flops, op.parameters, op.output) == (2 * B * S * 64 * 10, 640, (B, S, 10))
    assert (op.weight_bytes, op.dtype) == (320 + 80, "int8")


def test_fused_nodes_of_onnx_runtime(tmp_path: Path) -> None:
    nodes = [
        microsoft("FusedMatMul", "x w", "m", transB=1, alpha=0.5),
        microsoft("BiasGelu", "m b", "g"),
        microsoft("SkipLayerNormalization", "g x gamma beta b", "y"),
    ]
    weights = {"w": zeros(H, H), "b": zeros(H), "gamma": zeros(H), "beta": zeros(H)}
    product, gelu, norm = count(tmp_path, nodes, weights=weights).ops
    elements = B * S * H
    assert (product.matmul_flops, product.other_flops) == (2 * elements * H, elements)
    assert (gelu.other_flops, gelu.fused, gelu.part) == (9 * elements, True, "activations")
    assert (norm.other_flops, norm.part) == (7 * elements, "norms")


def test_embed_layer_normalization(tmp_path: Path) -> None:
    inputs = {"input_ids": (TensorProto.INT32, ("b", "s")), "token_type_ids": (TensorProto.INT32, ("b", "s"))}
    weights = {"words": zeros(50, H), "places": zeros(20, H), "types": zeros(2, H), "g": zeros(H), "bt": zeros(H)}
    embed = microsoft("EmbedLayerNormalization", "input_ids token_type_ids words places types g bt", "y mask")
    op = only(count(tmp_path, [embed], inputs, weights))
    assert (op.other_flops, op.part) == (7 * B * S * H, "embeddings")
    assert op.parameters == (50 + 20 + 2 + 2) * H
    assert op.weight_bytes == 3 * B * S * H * 4 + 2 * H * 4


@pytest.mark.parametrize("name", ["Attention", "QAttention"])
def test_merged_attention(name: str, tmp_path: Path) -> None:
    if name == "Attention":
        inputs, attention = STATES, microsoft("Attention", "x w b", "y", num_heads=2)
        weights = {"w": zeros(H, 3 * H), "b": zeros(3 * H)}
    else:
        inputs = {"x": (UINT8, ("batch", "sequence", H))}
        attention = microsoft("QAttention", "x w b s s - z wz", "y", num_heads=2)
        weights = {"w": zeros(H, 3 * H, dtype=np.int8), "b": zeros(3 * H), "s": SCALE, "z": ZERO}
        weights["wz"] = np.array(0, np.int8)
    found = count(tmp_path, [attention], inputs, weights)
    parts = add_up_by(found.ops, lambda op: op.part)
    assert not found.warnings
    assert parts["projections"].matmul_flops == 2 * B * S * H * 3 * H
    assert parts["projections"].parameters == H * 3 * H + 3 * H
    assert parts["attention_scores"].matmul_flops == parts["attention_values"].matmul_flops == 2 * B * S * S * H
    assert parts["softmax"].other_flops == 5 * B * 2 * S * S
    assert found.ops[0].dtype == ("int8" if name == "QAttention" else "fp32")


def test_multi_head_attention_over_other_tokens(tmp_path: Path) -> None:
    inputs = STATES | {"encoder_hidden_states": (FLOAT, ("batch", "encoder_sequence", H))}
    attention = microsoft("MultiHeadAttention", "x encoder_hidden_states encoder_hidden_states b", "y", num_heads=2)
    path = write_graph(tmp_path / "g.onnx", [attention], inputs, ["y"], {"b": zeros(3 * H)})
    found = read_graph(path).count(Workload(B, seq=9, target=4))
    assert not found.warnings
    parts = add_up_by(found.ops, lambda op: op.part)
    assert parts["attention_scores"].matmul_flops == parts["attention_values"].matmul_flops == 2 * B * 4 * 9 * H
    assert parts["projections"].other_flops == B * (4 + 2 * 9) * H
    assert found.ops[-1].output == (B, 4, H)


def write_cached_decoder(path: Path) -> Path:
    """One layer with grouped keys: 4 heads of 2 on 2 heads of keys."""
    inputs = {
        "input_ids": (INT64, ("batch_size", "sequence_length")),
        "attention_mask": (INT64, ("batch_size", "total_sequence_length")),
        "past_key_values.0.key": (FLOAT, ("batch_size", 2, "past_sequence_length", 2)),
        "past_key_values.0.value": (FLOAT, ("batch_size", 2, "past_sequence_length", 2)),
    }
    nodes = [
        node("Gather", "table input_ids", "x"),
        node("MatMul", "x wq", "q"),
        node("MatMul", "x wk", "k"),
        node("MatMul", "x wv", "v"),
        node("ReduceSum", "attention_mask axes", "sums", keepdims=0),
        node("Sub", "sums one", "last"),
        node("Cast", "last", "lengths", to=TensorProto.INT32),
        node("Shape", "attention_mask", "sizes"),
        node("Gather", "sizes index", "total64", axis=0),
        node("Cast", "total64", "total", to=TensorProto.INT32),
        microsoft(
            "GroupQueryAttention",
            "q k v past_key_values.0.key past_key_values.0.value lengths total cos sin",
            "a present.0.key present.0.value",
            num_heads=4,
            kv_num_heads=2,
            do_rotary=1,
            name="/model/layers.0/attn/GroupQueryAttention",
        ),
        node("MatMul", "a wo", "y"),
    ]
    weights = {
        "table": zeros(30, H), "wq": zeros(H, 8), "wk": zeros(H, 4), "wv": zeros(H, 4), "wo": zeros(8, H),
        "axes": np.array([1]), "one": np.array(1), "index": np.array(1), "cos": zeros(64, 1), "sin": zeros(64, 1),
    }  # fmt: skip
    return write_graph(path / "decoder.onnx", nodes, inputs, ["y", "present.0.key"], weights)


@pytest.mark.parametrize(
    ("workload", "new", "keys"),
    [
        (Workload(3, 5, mode=Mode.PREFILL), 5, 5),
        (Workload(3, 5, past=7), 5, 12),
        (Workload(3, 5, past=7, mode=Mode.DECODE), 1, 8),
    ],
    ids=["prefill", "forward-with-past", "decode"],
)
def test_a_decoder_with_its_cache(workload: Workload, new: int, keys: int, tmp_path: Path) -> None:
    found = read_graph(write_cached_decoder(tmp_path)).count(workload)
    assert not found.warnings
    parts = add_up_by(found.ops, lambda op: op.part)
    assert parts["projections"].matmul_flops == 2 * 3 * new * H * (8 + 4 + 4 + 8)
    assert parts["attention_scores"].matmul_flops == 2 * 3 * 4 * new * keys * 2
    hidden = sum(keys - (keys - new + query + 1) for query in range(new)) / (new * keys)
    assert parts["attention_scores"].skipped_flops == pytest.approx(hidden * parts["attention_scores"].matmul_flops)
    scores = next(op for op in found.ops if op.name.endswith(".scores"))
    assert (scores.layer, scores.output) == (0, (3, 4, new, keys))
    # Queries, the new keys, and the keys in the cache.
    assert scores.read_bytes == 3 * new * (8 + 4) * 4 + 3 * 2 * workload.past * 2 * 4


def test_function_bodies_are_expanded_unless_a_handler_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_HANDLERS", dict(registry._HANDLERS))
    monkeypatch.setattr(registry, "_SHAPES", dict(registry._SHAPES))
    function = helper.make_function(
        "mine", "Double", ["a", "b"], ["y"],
        [node("MatMul", "a b", "m"), node("MatMul", "m b", "y")],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    nodes = [node("Double", "x w", "y", domain="mine")]
    weights = {"w": zeros(H, H)}
    found = count(tmp_path, nodes, weights=weights, functions=[function], domains=["mine"])
    assert [op.matmul_flops for op in found.ops] == [2 * B * S * H * H] * 2

    @handles("Double", kind="matmul", domain="mine")
    def double(call: Call) -> Cost:
        return Cost(matmul_flops=4.0 * call.input(0).elements * H)

    found = count(tmp_path, nodes, weights=weights, functions=[function], domains=["mine"])
    assert not found.ops and "could not be found" in found.warnings[0]

    @shapes("Double", domain="mine")
    def double_shape(call: Call) -> Outputs:
        return [(call.input(0).element_type, call.shape(0))]

    op = only(count(tmp_path, nodes, weights=weights, functions=[function], domains=["mine"]))
    assert (op.matmul_flops, op.output) == (4 * B * S * H * H, (B, S, H))


def subgraph(nodes: list[NodeProto], inputs: dict[str, Any], outputs: list[str]) -> onnx.GraphProto:
    return helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
    )


def test_the_branch_that_does_more_is_counted_and_said(tmp_path: Path) -> None:
    small = subgraph([node("Relu", "x", "little")], {}, ["little"])
    large = subgraph([node("MatMul", "x w", "much")], {}, ["much"])
    nodes = [
        node("If", "which", "z", then_branch=small, else_branch=large),
        node("Relu", "z", "y"),
    ]
    inputs = STATES | {"which": (TensorProto.BOOL, ())}
    found = count(tmp_path, nodes, inputs, {"w": zeros(H, H)})
    assert [op.matmul_flops for op in found.ops] == [2 * B * S * H * H, 0]
    assert "else_branch" in found.warnings[0]


def test_a_merged_decoder_takes_the_branch_of_its_cache(tmp_path: Path) -> None:
    """optimum's merged decoders choose by the input use_cache_branch."""
    first = subgraph([node("MatMul", "x w", "a")], {}, ["a"])
    later = subgraph([node("Relu", "x", "b")], {}, ["b"])
    inputs = STATES | {
        "use_cache_branch": (TensorProto.BOOL, (1,)),
        "past_key_values.0.key": (FLOAT, ("batch", 2, "past", 4)),
    }
    nodes = [node("If", "use_cache_branch", "y", then_branch=later, else_branch=first)]
    path = write_graph(tmp_path / "g.onnx", nodes, inputs, ["y"], {"w": zeros(H, H)})
    assert add_up(read_graph(path).count(Workload(B, S)).ops).matmul_flops == 2 * B * S * H * H
    cached = read_graph(path).count(Workload(B, past=5, mode=Mode.DECODE))
    assert add_up(cached.ops).matmul_flops == 0 and not cached.warnings


def test_a_loop_counts_its_body_as_often_as_it_runs(tmp_path: Path) -> None:
    body = subgraph(
        [node("Identity", "go", "still"), node("MatMul", "state w", "next")],
        {"i": (INT64, []), "go": (TensorProto.BOOL, []), "state": (FLOAT, None)},
        ["still", "next"],
    )
    nodes = [node("Loop", "times - x", "y", body=body)]
    found = count(tmp_path, nodes, weights={"w": zeros(H, H), "times": np.array(7)})
    assert add_up(found.ops).matmul_flops == 7 * 2 * B * S * H * H
    assert "7 times" in found.warnings[0]


def test_a_scan_counts_its_body_for_each_element(tmp_path: Path) -> None:
    body = subgraph([node("MatMul", "row w", "out")], {"row": (FLOAT, None)}, ["out"])
    nodes = [node("Scan", "x", "y", body=body, num_scan_inputs=1, scan_input_axes=[1]), node("Relu", "y", "z")]
    found = count(tmp_path, nodes, weights={"w": zeros(H, 5)})
    assert add_up(found.ops).matmul_flops == S * 2 * B * H * 5
    assert found.ops[-1].output == (S, B, 5)


def test_unknown_ops_are_reported_and_their_bytes_counted(tmp_path: Path) -> None:
    nodes = [node("Mystery", "x", "m", domain="strange"), node("Relu", "m", "y")]
    path = write_graph(tmp_path / "g.onnx", nodes, STATES, ["y"], domains=["strange"])
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("m", FLOAT, ["batch", "sequence", H]))
    onnx.save(model, path)
    found = read_graph(path).count(Workload(B, S))
    assert found.ops[0].flops == 0 and found.ops[0].moved_bytes == 2 * B * S * H * 4
    assert found.ops[1].other_flops == B * S * H
    assert found.warnings == ("op strange.Mystery is unknown (1 nodes): 0 FLOPs, its bytes are counted",)


def test_a_node_whose_shape_cannot_be_found_is_reported(tmp_path: Path) -> None:
    nodes = [node("NonZero", "x", "n"), node("Cast", "n", "f", to=FLOAT), node("MatMul", "w f", "y", name="lost")]
    found = count(tmp_path, nodes, weights={"w": zeros(H, 3)})
    assert not [op for op in found.ops if op.matmul_flops]
    assert "shapes of 3 nodes could not be found" in found.warnings[0] and "'lost'" in found.warnings[0]
    with pytest.warns(GraphWarning, match="could not be found"):
        graph_ops(tmp_path / "g.onnx", Workload(B, S))


def test_shape_arithmetic_is_followed(tmp_path: Path) -> None:
    """Heads are split by sizes that are computed, and a mask is expanded."""
    nodes = [
        node("Shape", "x", "size", end=2),
        node("Concat", "size heads", "split", axis=0),
        node("Reshape", "x split", "h"),
        node("Transpose", "h", "q", perm=[0, 2, 1, 3]),
        node("Transpose", "h", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "q k", "scores"),
        node("Shape", "scores", "full"),
        node("ConstantOfShape", "full", "mask"),
        node("Add", "scores mask", "masked"),
        node("Softmax", "masked", "p"),
        node("MatMul", "p q", "y"),
    ]
    found = count(tmp_path, nodes, weights={"heads": np.array([2, H // 2])})
    assert not found.warnings
    parts = add_up_by(found.ops, lambda op: op.part)
    assert parts["attention_scores"].matmul_flops == parts["attention_values"].matmul_flops == 2 * B * S * S * H
    assert parts["attention_scores"].other_flops == B * 2 * S * S


def test_nodes_may_stand_in_any_order_and_sizes_may_be_fixed(tmp_path: Path) -> None:
    nodes = [node("Relu", "m", "y"), node("MatMul", "x w", "m")]
    path = write_graph(tmp_path / "g.onnx", nodes, {"x": (FLOAT, (4, "s", H))}, ["y"], {"w": zeros(H, H)})
    found = read_graph(path).count(Workload(B, S))
    assert [op.output for op in found.ops] == [(4, S, H)] * 2


def test_what_is_known_of_the_file(tmp_path: Path) -> None:
    weights = {"w": zeros(H, 5, dtype=np.float16), "b": zeros(5, dtype=np.float16)}
    inputs = {"x": (TensorProto.FLOAT16, ("b", "s", H))}
    path = write_graph(
        tmp_path / "g.onnx", [node("MatMul", "x w", "m"), node("Add", "m b", "y")], inputs, ["y"], weights
    )
    graph = read_graph(path)
    assert (graph.precision.name, graph.opset, graph.weight_bytes) == ("fp16", 18, (H * 5 + 5) * 2)
    assert graph.inputs == ("x",)
    assert {op.dtype for op in graph.count(Workload()).ops} == {"fp16"}


def test_int8_tables_are_int8(tmp_path: Path) -> None:
    ids = {"input_ids": (INT64, ("b", "s"))}
    nodes = [node("Gather", "table input_ids", "rows"), node("DequantizeLinear", "rows s", "y")]
    op = only(count(tmp_path, nodes, ids, {"table": zeros(100, H, dtype=np.int8), "s": SCALE}))
    assert (op.weight_bytes, op.part) == (B * S * H, "embeddings")
