from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir
import pytest

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.precision import to_precision
from tests.export.packed.graphs import DIM, VOCABULARY, parse, pre_norm, random_weights, run

DTYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
STATES = f"float[1, tokens, {DIM}] last_hidden_state"


def _dtypes(program: onnx_ir.Model) -> dict[str, str]:
    values = [*program.graph.initializers.values(), *(out for node in program.graph for out in node.outputs)]
    return {str(value.name): "none" if value.dtype is None else value.dtype.name for value in values}


def _weight(program: onnx_ir.Model, name: str) -> np.ndarray:
    tensor = program.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_weights_and_activations_change_and_angles_and_outputs_do_not(precision: str, kind: str) -> None:
    before, program = pre_norm(), pre_norm()
    to_precision(program, precision)
    dtypes = _dtypes(program)
    exact = {"place", "column", "angles", "cos", "sin", "frequency", "pooled", "last_hidden_state"}
    assert {dtypes[name] for name in exact} == {"FLOAT"}
    floats = {name for name, dtype in _dtypes(before).items() if dtype in ("FLOAT", "none")} - exact
    assert {dtypes[name] for name in floats} == {kind}
    assert [value.name for value in program.graph.outputs] == [value.name for value in before.graph.outputs]
    for name in ("qkv_w", "norm_b", "word"):
        assert (_weight(program, name) == _weight(before, name).astype(DTYPES[precision])).all()


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 4e-3), ("bf16", 6e-2)])
def test_the_answers_are_near_and_those_of_the_precision(tmp_path: Path, precision: str, tolerance: float) -> None:
    program = pre_norm()
    expected = run(program, tmp_path / "fp32")
    to_precision(program, precision)
    given = run(program, tmp_path / precision)
    error = np.abs(given["last_hidden_state"] - expected["last_hidden_state"]).max()
    assert tolerance / 30 < error < tolerance
    rounded = given["last_hidden_state"].astype(DTYPES[precision]).astype(np.float32)
    assert (rounded == given["last_hidden_state"]).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_linear_rounds_where_numpy_does(tmp_path: Path, precision: str) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), w=(DIM, DIM), b=(DIM,))
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        y = ridgeline.Linear<activation = "relu">(x, w, b)
        last_hidden_state = Add(y, x)
    """
    program = parse(nodes, STATES, weights)
    to_precision(program, precision)
    ids = np.arange(7)[None]
    given = run(program, tmp_path, ids=ids)["last_hidden_state"]
    kind = DTYPES[precision]
    word, w, b = (weights[name].astype(kind).astype(np.float32) for name in ("word", "w", "b"))
    x = word[ids]
    linear = np.maximum(x @ w.T + b, 0).astype(kind).astype(np.float32)
    expected = (linear + x).astype(kind).astype(np.float32)
    # Sums in another order may round one step apart.
    step = 2.0 ** (-9 if precision == "fp16" else -6)
    assert (np.abs(given - expected) <= step * np.abs(expected)).all() and (given == expected).mean() > 0.95


def test_statistics_of_an_unfused_norm_stay_float32(tmp_path: Path) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), gain=(DIM,)) | {
        "two": np.array(2.0, np.float32),
        "epsilon": np.array(1e-12, np.float32),
        "axes": np.array([-1]),
    }
    # Squares of 400 are past float16's range.
    weights["word"] *= 400 / np.abs(weights["word"]).max()
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        square = Pow(x, two)
        mean = ReduceMean(square, axes)
        safe = Add(mean, epsilon)
        root = Sqrt(safe)
        scaled = Div(x, root)
        gained = Mul(scaled, gain)
        last_hidden_state = Add(gained, gained)
    """
    program = parse(nodes, STATES, weights)
    expected = run(program, tmp_path / "fp32")["last_hidden_state"]
    to_precision(program, "fp16")
    dtypes = _dtypes(program)
    assert {dtypes[name] for name in ("square", "mean", "safe", "root", "epsilon")} == {"FLOAT"}
    assert dtypes["gained"] == dtypes["gain"] == "FLOAT16"
    given = run(program, tmp_path / "fp16")["last_hidden_state"]
    assert np.abs(given - expected).max() < 4e-3 * np.abs(expected).max()


def test_positions_buckets_and_relative_biases_are_exact(tmp_path: Path) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), table=(4000, DIM), bias=(2, 9), w=(DIM, DIM)) | {
        "step": np.array(1.0009, np.float32),
        "gain": np.array(1.5, np.float32),
        "heads": np.array([1, -1, 2, DIM // 2]),
        "flat": np.array([1, -1, DIM]),
    }
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        place = Cast<to = 1>(position_ids)
        stretched = Mul(place, step)
        bucket = Cast<to = 7>(stretched)
        found = Gather(table, bucket)
        placed = Add(x, found)
        q = Reshape(placed, heads)
        louder = Mul(bias, gain)
        attended = ridgeline.PackedAttention<scale = 0.3>(q, q, q, cu_seqlens, louder)
        last_hidden_state = Reshape(attended, flat)
    """
    program = parse(nodes, STATES, weights)
    positions = np.array([[2047, 2049, 2051, 3001, 3003]])
    expected = run(program, tmp_path / "fp32", ids=np.arange(5)[None], positions=positions)["last_hidden_state"]
    to_precision(program, "fp16")
    dtypes = _dtypes(program)
    assert {dtypes[name] for name in ("place", "stretched", "step", "bias", "louder")} == {"FLOAT"}
    assert dtypes["table"] == dtypes["found"] == "FLOAT16"
    given = run(program, tmp_path / "fp16", ids=np.arange(5)[None], positions=positions)["last_hidden_state"]
    assert np.abs(given - expected).max() < 2e-3


def test_a_weight_that_two_precisions_read_is_kept_in_both() -> None:
    weights = random_weights(word=(VOCABULARY, DIM), shared=(DIM,)) | {"axes": np.array([0])}
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        y = Add(x, shared)
        angle = Unsqueeze(shared, axes)
        cosine = Cos(angle)
        last_hidden_state = Mul(y, cosine)
    """
    program = parse(nodes, STATES, weights)
    to_precision(program, "bf16")
    assert {name: kind for name, kind in _dtypes(program).items() if name.startswith("shared")} == {
        "shared": "FLOAT",
        "shared.bf16": "BFLOAT16",
    }


def test_a_pool_that_a_head_reads_gives_the_graphs_precision(tmp_path: Path) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), w=(3, DIM)) | {"axes": np.array([1])}
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        first = ridgeline.Pool<method = "first">(x, cu_seqlens)
        row = Unsqueeze(first, axes)
        scored = ridgeline.Linear(row, w)
        logits = Squeeze(scored, axes)
    """
    program = parse(nodes, "float[sequences, 3] logits", weights)
    to_precision(program, "fp16")
    assert _dtypes(program)["first"] == "FLOAT16" and _dtypes(program)["logits"] == "FLOAT"
    given = run(program, tmp_path, ids=np.array([[4, 5, 6]]), bounds=np.array([0, 2, 3], np.int32))["logits"]
    assert np.abs(given - weights["word"][[4, 6]] @ weights["w"].T).max() < 2e-3


def test_a_weight_past_float16_is_refused_and_bfloat16_takes_it() -> None:
    large = random_weights(out_w=(DIM, 24))["out_w"] * 1e6
    with pytest.raises(ConversionError, match=r"'out_w' reaches .*65504; make packed-bf16"):
        to_precision(pre_norm(out_w=large), "fp16")
    program = pre_norm(out_w=large)
    to_precision(program, "bf16")
    assert _weight(program, "out_w").dtype == ml_dtypes.bfloat16


def test_a_constant_that_stands_for_minus_infinity_becomes_the_lowest() -> None:
    weights = random_weights(word=(VOCABULARY, DIM))
    nodes = f"""
        lowest = Constant<value = float {{{np.finfo(np.float32).min}}}>()
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        last_hidden_state = Max(x, lowest)
    """
    program = parse(nodes, STATES, weights)
    to_precision(program, "fp16")
    assert _weight(program, "lowest") == np.float16(-65504)


def test_copies_of_a_graph_are_left_alone() -> None:
    program = pre_norm()
    to_precision(program.clone(), "fp16")
    assert "FLOAT16" not in _dtypes(program).values()


def test_fp32_changes_nothing_and_another_precision_is_refused() -> None:
    program = pre_norm()
    before = _dtypes(program)
    to_precision(program, "fp32")
    assert _dtypes(program) == before
    with pytest.raises(ValueError, match="allowed are: fp32, fp16, bf16"):
        to_precision(program, "int8")


def test_a_graph_in_a_graph_is_refused() -> None:
    weights = random_weights(word=(VOCABULARY, DIM)) | {"always": np.array(True)}
    nodes = f"""
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        last_hidden_state = If(always) <
            then_branch = yes () => (float[1, t, {DIM}] a) {{ a = Abs(x) }},
            else_branch = no () => (float[1, t, {DIM}] b) {{ b = Neg(x) }}
        >
    """
    with pytest.raises(ConversionError, match="subgraph"):
        to_precision(parse(nodes, STATES, weights), "fp16")
