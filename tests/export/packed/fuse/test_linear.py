from __future__ import annotations

import numpy as np
import pytest

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

FIVE = "float[1, 5, 8] {}"
ACTIVATIONS = {
    "Gelu (h)": "gelu",
    'Gelu <approximate = "tanh"> (h)': "gelu_tanh",
    "Relu (h)": "relu",
    "Tanh (h)": "tanh",
    "Sigmoid (h)": "sigmoid",
}


def test_product_and_bias():
    program = raw("h = MatMul (x, w) y = Add (b, h)", w=(8, 8), b=(8,))
    assert fused(program).fused == {"Linear": 1}
    assert [value.name for value in only(program, "Linear").inputs] == ["x", "w", "b"]


def test_weight_has_its_outputs_first():
    w = np.arange(16 * 8, dtype=np.float32).reshape(8, 16)
    program = raw("y = MatMul (x, w)", outputs="float[1, tokens, 16] y", w=w)
    fused(program)
    np.testing.assert_array_equal(only(program, "Linear").inputs[1].const_value.numpy(), w.T)


def test_bias_of_one_row():
    program = raw("h = MatMul (x, w) y = Add (h, b)", w=(8, 8), b=(1, 1, 8))
    assert fused(program).fused == {"Linear": 1}
    assert list(only(program, "Linear").inputs[2].shape) == [8]


@pytest.mark.parametrize("shape", [(1,), (5, 1)])
def test_what_is_added_to_all_columns_is_no_bias(shape):
    program = raw(
        "h = MatMul (x, w) y = Add (h, b)", inputs=FIVE.format("x"), outputs=FIVE.format("y"), w=(8, 8), b=shape
    )
    assert fused(program).unfused == {"Add": 1}


def test_gemm_of_rows():
    program = raw(
        "r = Reshape (x, flat) h = Gemm <transB = 1> (r, w, b) y = Reshape (h, back)",
        outputs="float[1, tokens, 4] y",
        flat=[-1, 8],
        back=[1, -1, 4],
        w=(4, 8),
        b=(4,),
    )
    report = fused(program)
    assert report.fused == {"Linear": 1} and not report.shapes


def test_gemm_of_other_factors_stays():
    program = raw("y = Gemm <alpha = 2.0> (x, w)", inputs="float[tokens, 8] x", outputs="float[tokens, 8] y", w=(8, 8))
    assert fused(program).unfused == {"Gemm": 1}


def test_rows_of_sequences():
    program = raw(
        "p = ridgeline.Pool (x, cu_seqlens) "
        "h = Gemm <transB = 1> (p, w, b) t = Tanh (h) y = Gemm <transB = 1> (t, v, c)",
        inputs="float[1, tokens, 8] x, int32[bounds] cu_seqlens",
        outputs="float[sequences, 3] y",
        values="float[sequences, 8] p",
        w=(8, 8),
        b=(8,),
        v=(3, 8),
        c=(3,),
    )
    report = fused(program)
    assert report.fused == {"Linear": 2, "Pool": 1} and report.shapes == {"Reshape": 2} and not report.unfused


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_activation(op):
    program = raw(f"g = MatMul (x, w) h = Add (g, b) y = {op}", w=(8, 8), b=(8,))
    assert fused(program).fused == {"Linear": 1}
    assert attribute(only(program, "Linear"), "activation") == ACTIVATIONS[op]


def test_silu():
    program = raw("h = MatMul (x, w) s = Sigmoid (h) y = Mul (s, h)", w=(8, 8))
    assert fused(program).fused == {"Linear": 1}
    assert attribute(only(program, "Linear"), "activation") == "silu"


def test_activation_stays_when_the_sum_has_another_reader():
    program = raw("h = MatMul (x, w) g = Gelu (h) y = Mul (g, h)", w=(8, 8))
    report = fused(program)
    assert report.fused == {"Linear": 1} and report.unfused == {"Gelu": 1, "Mul": 1}


def test_activation_stays_when_the_sum_is_an_output():
    program = raw("h = MatMul (x, w) y = Relu (h)", outputs="float[1, tokens, 8] y, float[1, tokens, 8] h", w=(8, 8))
    assert fused(program).unfused == {"Relu": 1}


def test_residual():
    program = raw("h = MatMul (x, w) g = Gelu (h) y = Add (x, g)", w=(8, 8))
    assert fused(program).fused == {"Linear": 1}
    assert only(program, "Linear").inputs[3].name == "x"


def test_residual_of_another_shape_stays():
    program = raw("h = MatMul (x, w) y = Add (h, z)", inputs="float[1, tokens, 8] x, float[1, 1, 8] z", w=(8, 8))
    assert fused(program).unfused == {"Add": 1}


def test_norm_takes_the_addition_before_the_linear_does():
    program = raw("h = MatMul (x, w) s = Add (h, x) y = LayerNormalization (s, g, b)", w=(8, 8), g=(8,), b=(8,))
    assert fused(program).fused == {"AddNorm": 1, "Linear": 1}
    assert len(only(program, "Linear").inputs) == 2


@pytest.mark.parametrize("head", ["t = Transpose <perm = [1, 0]> (table) y = MatMul (h, t)", "y = MatMul (h, copy)"])
def test_tied_table_is_stored_once(head):
    table = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    weights = {"table": table, "w": (8, 8)} | ({"copy": table.T.copy()} if "copy" in head else {})
    program = raw(
        f"e = Gather (table, input_ids) h = MatMul (e, w) {head}",
        inputs="int64[1, tokens] input_ids",
        outputs="float[1, tokens, 20] y",
        **weights,
    )
    assert fused(program).fused == {"EmbeddingLayerNorm": 1, "Linear": 2}
    assert sorted(program.graph.initializers) == ["table", "w"]


def test_shared_weight_is_stored_once():
    w = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    program = raw("h = MatMul (x, w) g = Relu (h) y = MatMul (g, v)", w=w, v=w)
    fused(program)
    assert len(program.graph.initializers) == 1


def test_weight_is_named_for_its_bias():
    program = raw("h = MatMul (x, val_7) y = Add (h, layer_bias)", val_7=(8, 8), layer_bias=(8,))
    program.graph.initializers["layer_bias"].name = "layer.0.dense.bias"
    fused(program)
    assert sorted(program.graph.initializers) == ["layer.0.dense.bias", "layer.0.dense.weight"]


def test_product_of_two_activations_stays():
    program = raw("y = MatMul (x, z)", inputs="float[1, tokens, 8] x, float[8, 8] z", outputs="float[1, tokens, 8] y")
    assert fused(program).unfused == {"MatMul": 1}


def test_product_by_head_stays():
    program = raw(
        "y = MatMul (x, w)", inputs="float[1, 2, tokens, 8] x", outputs="float[1, 2, tokens, 8] y", w=(2, 8, 8)
    )
    assert fused(program).unfused == {"MatMul": 1}
