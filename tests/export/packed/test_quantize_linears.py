from __future__ import annotations

from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir
import pytest

from ridgeline_export.errors import ConversionError
from ridgeline_export.packed.precision import to_precision
from ridgeline_export.packed.quantize import quantize_linears, quantize_weight
from tests.export.packed.graphs import DIM, VOCABULARY, parse, pre_norm, random_weights, run

STATES = f"float[1, tokens, {DIM}] last_hidden_state"
# Post-norm layers as BERT's: each norm is also the next residual.
POST_NORM = """
    embedded = ridgeline.EmbeddingLayerNorm(input_ids, word, , , , , norm_w, norm_b)
    wide = ridgeline.Linear(embedded, project_w)
    q = ridgeline.Linear(wide, q_w, q_b)
    k = ridgeline.Linear(wide, k_w)
    v = ridgeline.Linear(wide, v_w)
    q4 = Reshape(q, heads)
    k4 = Reshape(k, heads)
    v4 = Reshape(v, heads)
    attended = ridgeline.PackedAttention<scale = 0.4>(q4, k4, v4, cu_seqlens)
    joined = Reshape(attended, flat)
    projected = ridgeline.Linear(joined, out_w)
    normed = ridgeline.AddNorm(projected, wide, norm_w, norm_b)
    inner = ridgeline.Linear<activation = "gelu">(normed, q_w)
    outer = ridgeline.Linear(inner, down_w, , normed)
    head = ridgeline.Linear<activation = "gelu">(outer, head_w)
    scored = ridgeline.AddNorm(head, , norm_w, norm_b)
    last_hidden_state = ridgeline.Linear(scored, word_w)
"""


def post_norm(**weights: np.ndarray) -> onnx_ir.Model:
    names = ("project_w", "q_w", "k_w", "v_w", "out_w", "down_w", "head_w", "word_w")
    arrays = random_weights(word=(VOCABULARY, DIM), norm_w=(DIM,), norm_b=(DIM,), q_b=(DIM,))
    arrays |= random_weights(1, **dict.fromkeys(names, (DIM, DIM)))
    arrays |= {"heads": np.array([1, -1, 4, DIM // 4]), "flat": np.array([1, -1, DIM])}
    arrays["norm_w"] += 1
    return parse(POST_NORM, STATES, arrays | weights)


def _counts(program: onnx_ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in program.graph)


def test_the_layers_linears_are_quantized_and_projections_and_heads_are_not() -> None:
    program = post_norm()
    assert quantize_linears(program, "int8") == 6
    kept = [node.inputs[1] for node in program.graph if node.op_type == "Linear"]
    assert [value.name for value in kept if value is not None] == ["project_w", "head_w", "word_w"]
    counts = _counts(program)
    # q, k and v share one input's codes.
    assert (counts["QuantizedLinear"], counts["QuantizeRows"]) == (6, 4)
    # q_w is the weight of two linears and is stored once.
    assert sum(name.endswith("_w.codes") for name in program.graph.initializers) == 5


def test_heads_are_quantized_when_asked_for() -> None:
    program = post_norm()
    assert quantize_linears(program, "int8", heads=True) == 9
    assert _counts(program)["Linear"] == 0


def test_a_pre_norm_gated_models_layers_are_found() -> None:
    program = pre_norm()
    assert quantize_linears(program, "fp8") == 4
    assert [node.inputs[1].name for node in program.graph if node.op_type == "Linear" and node.inputs[1]] == ["head_w"]


def test_the_first_layers_linears_beside_its_attention_are_found() -> None:
    nodes = """
        embedded = ridgeline.EmbeddingLayerNorm(input_ids, word, , , , , norm_w, norm_b)
        wide = ridgeline.Linear(embedded, project_w)
        normed = ridgeline.AddNorm(wide, , norm_w, norm_b)
        q = ridgeline.Linear(normed, q_w)
        q4 = Reshape(q, heads)
        attended = ridgeline.PackedAttention<scale = 0.4>(q4, q4, q4, cu_seqlens)
        joined = Reshape(attended, flat)
        inner = ridgeline.Linear<activation = "gelu">(normed, up_w)
        outer = ridgeline.Linear(inner, down_w)
        both = ridgeline.Linear(joined, out_w, , outer)
        last, stream = ridgeline.AddNorm(both, wide, norm_w, norm_b)
        last_hidden_state = ridgeline.Linear(last, head_w)
    """
    names = ("project_w", "q_w", "up_w", "down_w", "out_w", "head_w")
    weights = random_weights(word=(VOCABULARY, DIM), norm_w=(DIM,), norm_b=(DIM,), **dict.fromkeys(names, (DIM, DIM)))
    weights |= {"heads": np.array([1, -1, 4, DIM // 4]), "flat": np.array([1, -1, DIM])}
    program = parse(nodes, STATES, weights)
    assert quantize_linears(program, "int8") == 4
    kept = [node.inputs[1] for node in program.graph if node.op_type == "Linear"]
    assert [value.name for value in kept if value is not None] == ["project_w", "head_w"]


def _rows(x: np.ndarray, format: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of rows, written out anew."""
    largest = {"int8": 127, "fp8": 448}[format]
    scale = np.abs(x).max(-1, keepdims=True).astype(np.float32) / np.float32(largest)
    scale[scale == 0] = 1
    codes = x / scale
    return (np.rint(codes) if format == "int8" else codes.astype(ml_dtypes.float8_e4m3fn).astype(np.float32)), scale


@pytest.mark.parametrize("format", ["int8", "fp8"])
def test_a_quantized_linear_computes_what_numpy_does(tmp_path: Path, format: str) -> None:
    weights = random_weights(word=(VOCABULARY, DIM), a=(9, DIM), b=(9,), c=(DIM, 9))
    weights["a"][3] = 0
    nodes = """
        x = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        inner = ridgeline.Linear<activation = "relu">(x, a, b)
        last_hidden_state = ridgeline.Linear(inner, c, , x)
    """
    program = parse(nodes, STATES, weights)
    assert quantize_linears(program, format, heads=True) == 2
    ids = np.arange(8)[None]
    given = run(program, tmp_path, ids=ids)["last_hidden_state"]
    x = weights["word"][ids]

    def linear(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        codes, scale = _rows(x, format)
        weight_codes, weight_scale = _rows(weight, format)
        return np.asarray(codes @ weight_codes.T * scale * weight_scale[:, 0])

    expected = linear(np.maximum(linear(x, weights["a"]) + weights["b"], 0), weights["c"]) + x
    assert np.abs(given - expected).max() < (1e-5 if format == "int8" else 0.03)
    exact = np.maximum(x @ weights["a"].T + weights["b"], 0) @ weights["c"].T + x
    assert 1e-4 < np.abs(given - exact).max() < 0.2


def test_weight_codes_are_the_nearest_and_channels_of_zeros_have_scale_1() -> None:
    weight = np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0], [-254, 127, 2, -3]], np.float32)
    codes, scale = quantize_weight(weight, "int8")
    assert scale.tolist() == [1, 1, 2] and scale.dtype == np.float32
    assert codes.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0], [-127, 64, 1, -2]]
    codes, scale = quantize_weight(np.array([[448, 17, 1 / 1024, -19]], np.float32), "fp8")
    assert scale.tolist() == [1]
    # Three bits of mantissa: between 16 and 32 the numbers are 2 apart, and the smallest is 2^-9.
    assert codes.astype(np.float32).tolist() == [[448, 16, 0, -20]]
    codes, scale = quantize_weight(np.full((1, 2), 1e-45, np.float32), "int8")
    assert scale.tolist() == [1] and codes.tolist() == [[0, 0]]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_rest_of_the_graph_takes_the_precision(tmp_path: Path, precision: str) -> None:
    program = pre_norm()
    expected = run(program, tmp_path / "fp32")["last_hidden_state"]
    quantize_linears(program, "int8")
    to_precision(program, precision)
    kind = onnx_ir.DataType.FLOAT16 if precision == "fp16" else onnx_ir.DataType.BFLOAT16
    for node in program.graph:
        if node.op_type == "QuantizedLinear":
            assert node.attributes["to"].as_int() == kind == node.outputs[0].dtype
            names = {value.name: value.dtype for value in node.inputs if value is not None}
            floats = {name: dtype for name, dtype in names.items() if name is not None and not name.endswith(".codes")}
            assert set(floats.values()) == {onnx_ir.DataType.FLOAT}, floats
    error = np.abs(run(program, tmp_path / "int8")["last_hidden_state"] - expected).max()
    assert 1e-3 < error < 0.15


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed are: int8, fp8"):
        quantize_linears(pre_norm(), "int4")
    broken = np.full((DIM, 24), np.nan, np.float32)
    with pytest.raises(ConversionError, match="'out_w' is not finite"):
        quantize_linears(pre_norm(out_w=broken), "int8")
