"""Packed graphs: each op of the dialect by hand, and whole models against their config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto

from ridgeline_estimate import EstimateError
from ridgeline_estimate.counting import model_ops
from ridgeline_estimate.datasheets import find_device
from ridgeline_estimate.graph import GraphCount, read_graph
from ridgeline_estimate.graph.registry import find_handler, find_shapes
from ridgeline_estimate.op import Op, add_up, add_up_by
from ridgeline_estimate.precision import PRECISIONS
from ridgeline_estimate.reading import read_architecture
from ridgeline_estimate.roofline import predict
from ridgeline_estimate.workload import Mode, Workload
from tests.estimate.estimating import BERT
from tests.estimate.graphs import FLOAT, Axes, node, zeros
from tests.estimate.packed_graphs import CODES, KINDS, Bert, op, write_packed

LAW = Path(__file__).parents[2] / "docs" / "dialect.json"
LENGTHS = (3, 1, 8, 3)
T, H = sum(LENGTHS), 8
PAIRS = sum(length**2 for length in LENGTHS)
STATES: dict[str, tuple[int, Axes]] = {"x": (FLOAT, (1, "tokens", H))}
HEADS: dict[str, tuple[int, Axes]] = {
    "q": (FLOAT, (1, "tokens", 4, 2)),
    "k": (FLOAT, (1, "tokens", 2, 2)),
    "v": (FLOAT, (1, "tokens", 2, 2)),
}
PRODUCTS = ("projections", "attention_scores", "attention_values", "feed_forward")


def count(path: Path, nodes: list[NodeProto], inputs: Any = None, **weights: Any) -> GraphCount:
    """Count nodes on four sequences of 15 tokens together."""
    graph = read_graph(write_packed(path / "g.onnx", nodes, weights, inputs or STATES))
    assert graph.is_packed
    found = graph.count(Workload.of_lengths(LENGTHS))
    assert not found.warnings
    return found


def test_every_op_of_the_dialect_is_counted() -> None:
    for name in json.loads(LAW.read_text())["ops"]:
        assert find_handler("ridgeline", name) and find_shapes("ridgeline", name), name


def seen(length: int, left: int, right: int) -> int:
    """Pairs of a query and a key within a window, -1 = no bound, one by one."""
    near = np.arange(length)[None, :] - np.arange(length)[:, None]
    return int(((left < 0) | (near >= -left)).__and__((right < 0) | (near <= right)).sum())


@pytest.mark.parametrize(
    ("attributes", "left", "right", "per_score"),
    [
        ({}, -1, -1, 2),
        ({"causal": 1}, -1, 0, 2),
        ({"window_left": 2, "window_right": 1}, 2, 1, 2),
        ({"causal": 1, "window_left": 4, "window_right": 9, "softcap": 5.0}, 4, 0, 5),
        ({"scale": 1.0, "window_right": 0}, -1, 0, 1),
    ],
)
def test_attention_runs_within_each_sequence(
    attributes: dict[str, Any], left: int, right: int, per_score: int, tmp_path: Path
) -> None:
    attention = op("PackedAttention", "q k v cu_seqlens", "y", **{"scale": 0.5} | attributes)
    scores, softmax, values = count(tmp_path, [attention], HEADS).ops
    assert scores.matmul_flops == values.matmul_flops == 2 * 4 * PAIRS * 2
    hidden = PAIRS - sum(seen(length, left, right) for length in LENGTHS)
    assert scores.skipped_flops == values.skipped_flops == 2 * 4 * hidden * 2
    assert (scores.other_flops, softmax.other_flops) == (4 * PAIRS * per_score, 4 * PAIRS * 5)
    assert (scores.output, values.output) == ((4, 4, 8, 8), (1, T, 4, 2))
    # Scores never reach memory; queries and keys are read once, and the four bounds beside them.
    assert (scores.read_bytes, scores.written_bytes) == (T * (4 + 2) * 2 * 4 + 5 * 4, 0)
    assert (values.read_bytes, values.written_bytes) == (T * 2 * 2 * 4, T * 4 * 2 * 4)
    assert softmax.fused and softmax.moved_bytes == 0


def test_a_relative_bias_is_a_weight_that_is_added(tmp_path: Path) -> None:
    attention = op("PackedAttention", "q k v cu_seqlens bias", "y", scale=0.5)
    scores = count(tmp_path, [attention], HEADS, bias=zeros(4, 7)).ops[0]
    assert (scores.other_flops, scores.parameters, scores.weight_bytes) == (4 * PAIRS * 3, 28, 28 * 4)


def test_disentangled_attention_and_its_products_with_positions(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", "x heads", "q"),
        node("Transpose", "q", "q_first", perm=[0, 2, 1, 3]),
        node("MatMul", "q_first table", "terms"),
        node("Transpose", "terms", "c2p", perm=[0, 2, 1, 3]),
        op("DisentangledAttention", "q q q cu_seqlens buckets c2p -", "y", scale=0.5),
    ]
    buckets = np.zeros(9, np.int32)
    found = count(tmp_path, nodes, heads=np.array([1, -1, 4, 2]), table=zeros(4, 2, 6), buckets=buckets).ops
    product, scores = (each for each in found if each.part == "attention_scores" and each.matmul_flops)
    assert product.matmul_flops == 2 * T * 4 * 2 * 6
    assert (scores.matmul_flops, scores.other_flops) == (2 * 4 * PAIRS * 2, 4 * PAIRS * (2 + 2))
    # Two heads' elements a token, which are queries and keys at once, six columns, the bounds; a column by distance.
    assert (scores.read_bytes, scores.weight_bytes) == (T * 8 * 4 + 5 * 4 + T * 4 * 6 * 4, 9 * 4)
    assert found[-1].output == (1, T, 4, 2)


def test_linear_with_all_that_is_fused_into_it(tmp_path: Path) -> None:
    product, gelu = count(
        tmp_path, [op("Linear", "x w b x", "y", activation="gelu")], w=zeros(H, H, dtype=np.float32), b=zeros(H)
    ).ops
    assert (product.matmul_flops, product.other_flops) == (2 * T * H * H, 2 * T * H)
    assert (product.parameters, product.vectors, product.weight_bytes) == (H * H + H, H, (H * H + H) * 4)
    assert (product.read_bytes, product.written_bytes, product.output) == (T * H * 4, T * H * 4, (1, T, H))
    assert (gelu.part, gelu.other_flops, gelu.fused, gelu.moved_bytes) == ("activations", 8 * T * H, True, 0)


@pytest.mark.parametrize(("format_", "to"), [("int8", "fp16"), ("fp8", "bf16")])
def test_quantized_linear_multiplies_codes(format_: str, to: str, tmp_path: Path) -> None:
    nodes = [
        op("QuantizeRows", "x", "codes rows", format=format_),
        op("QuantizedLinear", "codes rows w ws b", "y", format=format_, to=KINDS[to], activation="relu"),
    ]
    found = count(tmp_path, nodes, w=zeros(5, H, dtype=CODES[format_]), ws=zeros(5), b=zeros(5))
    quantize, product, relu = found.ops
    assert (quantize.part, quantize.other_flops) == ("quantization", 4 * T * H)
    assert (quantize.read_bytes, quantize.written_bytes) == (T * H * 4, T * H + T * 4)
    assert (product.dtype, product.matmul_flops, product.other_flops) == (format_, 2 * T * H * 5, 3 * T * 5)
    # Scales are no parameters, and they are read.
    assert (product.parameters, product.weight_bytes) == (5 * H + 5, 5 * H + 5 * 4 + 5 * 4)
    assert (product.read_bytes, product.written_bytes) == (T * H + T * 4, T * 5 * 2)
    assert relu.other_flops == T * 5


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "flops", "output"),
    [
        ([op("AddNorm", "x - g b", "y")], STATES, ("g", "b"), 5 * T * H, (1, T, H)),
        ([op("AddNorm", "x x g", "y sum", kind="rms")], STATES, ("g",), 5 * T * H, (1, T, H)),
        ([op("GatedActivation", "x", "y", activation="silu")], STATES, (), (4 + 1) * T * H // 2, (1, T, H // 2)),
        ([op("Rotary", "q k cos cos", "y r")], HEADS, (), 3 * T * 2 * (4 + 2), (1, T, 4, 2)),
        ([op("Pool", "x cu_seqlens", "y", method="mean")], STATES, (), T * H + 4 * H, (4, H)),
        ([op("Pool", "x cu_seqlens", "y", method="max", normalize=1)], STATES, (), T * H + 3 * 4 * H, (4, H)),
        ([op("Pool", "x cu_seqlens", "y", method="first")], STATES, (), 0, (4, H)),
    ],
)
def test_ops_by_element(
    nodes: list[NodeProto],
    inputs: dict[str, tuple[int, Axes]],
    weights: tuple[str, ...],
    flops: float,
    output: tuple[int, ...],
    tmp_path: Path,
) -> None:
    inputs = inputs | ({"cos": (FLOAT, (1, "tokens", 1))} if "cos" in nodes[0].input else {})
    (found,) = count(tmp_path, nodes, inputs, **{name: zeros(H) for name in weights}).ops
    assert (found.other_flops, found.matmul_flops, found.output) == (flops, 0, output)
    written = sum(bool(name) for name in nodes[0].output)
    if nodes[0].op_type == "AddNorm":
        assert found.written_bytes == written * T * H * 4
    if nodes[0].op_type == "Pool":
        rows = len(LENGTHS) if flops == 0 else T
        assert (found.part, found.layer, found.read_bytes) == ("head", None, rows * H * 4 + 5 * 4)


def test_an_embedding_without_its_norm(tmp_path: Path) -> None:
    ids: dict[str, tuple[int, Axes]] = {"input_ids": (TensorProto.INT64, (1, "tokens"))}
    embedding = op("EmbeddingLayerNorm", "input_ids words input_ids places", "y", normalize=0)
    (found,) = count(tmp_path, [embedding], ids, words=zeros(50, H), places=zeros(20, H)).ops
    assert (found.other_flops, found.parameters, found.weight_bytes) == (T * H, 70 * H, 2 * T * H * 4)


def config_ops(workload: Workload) -> list[Op]:
    found = model_ops(read_architecture(BERT, "feature-extraction"), workload, PRECISIONS["fp32"])
    return [each for each in found if not each.is_constant]


@pytest.mark.parametrize(
    ("precision", "codes"), [("fp32", None), ("fp16", None), ("bf16", None), ("fp16", "int8"), ("bf16", "fp8")]
)
def test_a_packed_model_agrees_with_its_config(precision: str, codes: str | None, tmp_path: Path) -> None:
    graph = read_graph(Bert(BERT, precision, codes).write(tmp_path / "model.onnx"))
    assert graph.precision.name == (codes or precision)
    for shape in [(1, 16), (3, 50), (8, 128)]:
        found, expected = graph.count(Workload(*shape)), config_ops(Workload(*shape))
        assert not found.warnings
        parts, wanted = (add_up_by(ops, lambda each: each.part) for ops in (found.ops, expected))
        for part in PRODUCTS:
            assert parts[part].matmul_flops == pytest.approx(wanted[part].matmul_flops, rel=1e-12), part
        assert add_up(found.ops).parameters == add_up(expected).parameters
        unquantized = sum(each.flops for each in found.ops if each.part != "quantization")
        # Sums of codes are scaled twice; in layers as narrow as these that is a percent.
        assert unquantized == pytest.approx(add_up(expected).flops, rel=0.02 if codes else 0.01)
        assert {each.layer for each in found.ops if each.part in PRODUCTS} == {0, 1, 2}
        formats = {(each.part, each.dtype) for each in found.ops if each.matmul_flops}
        assert ("feed_forward", codes or precision) in formats and ("attention_scores", precision) in formats
    elements = {name: sum(each.parameters for each in expected if each.part == name) for name in wanted}
    inner = sum(elements[part] for part in ("projections", "feed_forward"))
    vectors = sum(each.vectors for each in expected if each.part in ("projections", "feed_forward"))
    size = 4 if precision == "fp32" else 2
    bytes_ = size * (sum(elements.values()) - inner + vectors) + (inner - vectors) * (1 if codes else size)
    scales = 3 * 4 * (5 * BERT["hidden_size"] + BERT["intermediate_size"]) if codes else 0
    shape_bytes = 8 * (4 + 3)
    assert graph.weight_bytes == bytes_ + scales + shape_bytes


def test_a_mix_of_lengths_is_the_sum_of_its_sequences(tmp_path: Path) -> None:
    graph = read_graph(Bert(BERT).write(tmp_path / "model.onnx"))
    mixed = add_up(graph.count(Workload.of_lengths((5, 90, 1, 33))).ops)
    alone = [add_up(graph.count(Workload(1, length)).ops) for length in (5, 90, 1, 33)]
    assert mixed.matmul_flops == sum(each.matmul_flops for each in alone)
    assert mixed.other_flops == sum(each.other_flops for each in alone)
    assert mixed.weight_bytes < sum(each.weight_bytes for each in alone)
    assert graph.count(Workload.of_lengths((7, 7))).ops == graph.count(Workload(2, 7)).ops


def test_the_device_multiplies_codes_at_their_own_peak(tmp_path: Path) -> None:
    device = find_device("h100")
    seconds = {}
    for codes in (None, "int8", "fp8"):
        graph = read_graph(Bert(BERT, "bf16", codes).write(tmp_path / f"{codes}.onnx"))
        ops = [each for each in graph.count(Workload(64, 512)).ops if each.part == "feed_forward"]
        prediction = predict(ops, device)
        peak = device.peak(codes or "bf16").flops_per_s
        assert prediction.ops[0].compute_s == pytest.approx(
            ops[0].matmul_flops / peak + ops[0].other_flops / device.peak("fp32" if codes else "bf16").flops_per_s
        )
        seconds[codes] = prediction.seconds
    assert seconds["int8"] < seconds[None]


def test_what_is_alive_at_once(tmp_path: Path) -> None:
    """Most is alive while the feed-forward's inner states are shrunk."""
    graph = read_graph(Bert(BERT, "fp16").write(tmp_path / "model.onnx"))
    tokens, width, inner = 30, BERT["hidden_size"], BERT["intermediate_size"]
    # Ids are dead by then. The residual, the inner states, and what they are shrunk to.
    assert graph.count(Workload(3, 10)).peak_bytes == 4 * 4 + 2 * tokens * (width + inner + width)


def test_functions_stay_one_op_and_written_out_bodies_count_what_they_run(tmp_path: Path) -> None:
    body = """<opset_import: ["" : 20], domain: "ridgeline">
    PackedAttention <scale>(q, k, v, cu_seqlens) => (out) {
        qh = Transpose<perm=[0, 2, 1, 3]>(q)
        kh = Transpose<perm=[0, 2, 3, 1]>(k)
        vh = Transpose<perm=[0, 2, 1, 3]>(v)
        scores = MatMul(qh, kh)
        shares = Softmax<axis=-1>(scores)
        mixed = MatMul(shares, vh)
        out = Transpose<perm=[0, 2, 1, 3]>(mixed)
    }"""
    function = onnx.parser.parse_function(body)
    function.overload = "plain"
    attention = op("PackedAttention", "q q q cu_seqlens", "y", scale=0.5)
    attention.overload = "plain"
    inputs = {"q": HEADS["q"]}
    path = write_packed(tmp_path / "g.onnx", [attention], {}, inputs, [function])
    whole = read_graph(path).count(Workload.of_lengths(LENGTHS))
    assert not whole.warnings and add_up(whole.ops).matmul_flops == 2 * 2 * 4 * PAIRS * 2
    inlined = onnx.inliner.inline_local_functions(onnx.load(path))
    onnx.save(inlined, path)
    graph = read_graph(path)
    found = graph.count(Workload.of_lengths(LENGTHS))
    assert graph.is_packed and add_up(found.ops).matmul_flops == 2 * 2 * 4 * T * T * 2
    assert found.warnings == (
        "the packed dialect's ops are written out in this graph: its attention runs over all pairs of tokens in the "
        "batch, those of different sequences too",
    )


def test_bounds_that_are_cast_are_known_and_computed_ones_are_not(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "cu_seqlens", "wide", to=TensorProto.INT64),
        node("Cast", "wide", "bounds32", to=TensorProto.INT32),
        op("PackedAttention", "q k v bounds32", "y", scale=0.5),
    ]
    graph = read_graph(write_packed(tmp_path / "g.onnx", nodes, {}, HEADS))
    # More bounds than shape arithmetic keeps.
    found = graph.count(Workload(5000, 3))
    assert not found.warnings and add_up(found.ops).matmul_flops == 2 * 2 * 4 * 5000 * 9 * 2
    nodes[1] = node("Identity", "given", "bounds32")
    path = write_packed(tmp_path / "h.onnx", nodes, {}, HEADS | {"given": (TensorProto.INT32, ("n",))})
    assert any("could not be found" in note for note in read_graph(path).count(Workload(2, 3)).warnings)


def test_a_padded_graph_with_bounds_is_not_packed(tmp_path: Path) -> None:
    ids: dict[str, tuple[int, Axes]] = {"input_ids": (TensorProto.INT64, ("batch", "tokens"))}
    path = write_packed(tmp_path / "g.onnx", [node("Gather", "w input_ids", "y")], {"w": zeros(9, H)}, ids)
    graph = read_graph(path)
    assert not graph.is_packed
    assert graph.count(Workload.of_lengths(LENGTHS)).ops[0].output == (4, 8, H)


def test_workloads_that_a_packed_graph_cannot_run(tmp_path: Path) -> None:
    graph = read_graph(write_packed(tmp_path / "g.onnx", [op("AddNorm", "x", "y")], {}, STATES))
    for workload in (Workload(mode=Mode.TRAIN), Workload(mode=Mode.DECODE), Workload(past=3)):
        with pytest.raises(EstimateError, match="graph"):
            graph.count(workload)


@pytest.mark.parametrize("lengths", [(), (3, 0), (2.5,), (True,)])
def test_lengths_that_are_none(lengths: Any) -> None:
    with pytest.raises(EstimateError, match="they should be whole numbers from 1 up, one for each sequence"):
        Workload.of_lengths(lengths)


def test_lengths_that_contradict() -> None:
    with pytest.raises(EstimateError, match="batch is 2 and seq 9, but there are 2 lengths up to 5"):
        Workload(2, 9, lengths=(3, 5))
    with pytest.raises(EstimateError, match="decode takes one of each"):
        Workload.of_lengths((3, 5), Mode.DECODE)
