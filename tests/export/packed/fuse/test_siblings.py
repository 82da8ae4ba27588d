from __future__ import annotations

import numpy as np

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

QKV = "q = MatMul (x, wq) k = MatMul (x, wk) v0 = MatMul (x, wv) v = Add (v0, bv) "


def test_query_key_and_value_of_unequal_sizes():
    program = raw(
        QKV,
        outputs="float[1, tokens, 8] q, float[1, tokens, 4] k, float[1, tokens, 4] v",
        wq=(8, 8),
        wk=(8, 4),
        wv=(8, 4),
        bv=(4,),
    )
    report = fused(program)
    assert report.fused == {"Linear": 1} and report.shapes == {"Split": 1}
    bias = only(program, "Linear").inputs[2].const_value.numpy()
    assert bias.shape == (16,) and not bias[:12].any() and bias[12:].all()


def test_joined_weights_are_named_for_all():
    program = raw(
        "q = MatMul (x, a) k = MatMul (x, b)",
        outputs="float[1, tokens, 8] q, float[1, tokens, 8] k",
        a=(8, 8),
        b=(8, 8),
    )
    program.graph.initializers["a"].name = "layer.0.q_proj.weight"
    program.graph.initializers["b"].name = "layer.0.k_proj.weight"
    fused(program)
    assert only(program, "Linear").inputs[1].name == "layer.0.q_proj+k_proj.weight"


def test_activated_linear_stays_alone():
    program = raw(
        "q = MatMul (x, a) k = MatMul (x, b) h = MatMul (x, c) y = Gelu (h)",
        outputs="float[1, tokens, 8] q, float[1, tokens, 8] k, float[1, tokens, 8] y",
        a=(8, 8),
        b=(8, 8),
        c=(8, 8),
    )
    report = fused(program)
    assert report.fused == {"Linear": 2} and not report.unfused


def test_layers_that_share_weights_go_on_sharing():
    layer = "q{0} = MatMul ({1}, a) k{0} = MatMul ({1}, b) m{0} = Mul (q{0}, k{0}) r{0} = Relu (m{0}) "
    program = raw(layer.format(0, "x") + layer.format(1, "r0"), outputs="float[1, tokens, 8] r1", a=(8, 8), b=(8, 8))
    assert fused(program).fused == {"Linear": 2}
    assert [name for name in program.graph.initializers if "+" in name] == ["a+b"]
    assert not {"a", "b"} & set(program.graph.initializers)


def test_linears_of_two_inputs_stay_apart():
    program = raw(
        "q = MatMul (x, a) k = MatMul (z, b)",
        inputs="float[1, tokens, 8] x, float[1, tokens, 8] z",
        outputs="float[1, tokens, 8] q, float[1, tokens, 8] k",
        a=(8, 8),
        b=(8, 8),
    )
    assert fused(program).fused == {"Linear": 2}


def test_gate_and_up_of_two_linears():
    program = raw(
        "g = MatMul (x, wg) u = MatMul (x, wu) s = Sigmoid (g) a = Mul (g, s) y = Mul (u, a)",
        outputs="float[1, tokens, 6] y",
        wg=(8, 6),
        wu=(8, 6),
    )
    report = fused(program)
    assert report.fused == {"GatedActivation": 1, "Linear": 1} and not report.unfused and not report.shapes
    assert attribute(only(program, "GatedActivation"), "activation") == "silu"


def test_halves_of_one_tensor():
    halves = "a, b = Split <axis = -1, num_outputs = 2> (x) "
    for nodes, first in (("t = Gelu (a) y = Mul (t, b)", 1), ("t = Gelu (b) y = Mul (a, t)", 0)):
        program = raw(halves + nodes, outputs="float[1, tokens, 4] y")
        report = fused(program)
        assert report.fused == {"GatedActivation": 1} and not report.shapes
        assert attribute(only(program, "GatedActivation"), "gate_first") == first


def test_unequal_parts_are_no_gate():
    program = raw(
        "a, b = Split <axis = 2> (x, sizes) t = Gelu (a) y = Mul (t, b)",
        inputs="float[1, tokens, 7] x",
        outputs="float[1, tokens, 6] y",
        sizes=[6, 1],
    )
    assert fused(program).unfused == {"Gelu": 1, "Mul": 1}


def test_gate_that_others_read_stays():
    program = raw(
        "a, b = Split <axis = -1, num_outputs = 2> (x) t = Gelu (a) y = Mul (t, b)",
        outputs="float[1, tokens, 4] y, float[1, tokens, 4] t",
    )
    assert fused(program).unfused == {"Gelu": 1, "Mul": 1}


def test_slices_of_one_projection():
    program = raw(
        "h = MatMul (x, w) v = Reshape (h, heads) "
        "q5 = Slice (v, zero, one, two) q = Squeeze (q5, two) "
        "k5 = Slice (v, one, two, two) k = Squeeze (k5, two) "
        "u5 = Slice (v, two, end, two) u = Squeeze (u5, two)",
        outputs="float[1, tokens, 2, 4] q, float[1, tokens, 2, 4] k, float[1, tokens, 2, 4] u",
        w=(8, 24),
        heads=[1, -1, 3, 2, 4],
        zero=[0],
        one=[1],
        two=[2],
        end=[np.iinfo(np.int64).max],
    )
    report = fused(program)
    assert report.fused == {"Linear": 1} and report.shapes == {"Reshape": 3, "Split": 1} and not report.unfused


def test_slices_with_a_gap_stay():
    program = raw(
        "a = Slice (x, zero, three, two) b = Slice (x, four, eight, two)",
        outputs="float[1, tokens, 3] a, float[1, tokens, 4] b",
        zero=[0],
        two=[2],
        three=[3],
        four=[4],
        eight=[8],
    )
    assert fused(program).unfused == {"Slice": 2}
