from __future__ import annotations

import pytest

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

TWO = "float[1, tokens, 8] x, float[1, tokens, 8] z"
MEAN_SQUARE = "p = Pow (x, two) m = ReduceMean <keepdims = 1> (p, axes) e = Add (m, eps) r = Sqrt (e) "
RMS = {
    "reciprocal": MEAN_SQUARE + "i = Reciprocal (r) n = Mul (x, i) y = Mul (w, n)",
    "quotient": MEAN_SQUARE + "i = Div (one, r) n = Mul (i, x) y = Mul (n, w)",
    "division": MEAN_SQUARE + "n = Div (x, r) y = Mul (n, w)",
    "squared by itself": MEAN_SQUARE.replace("Pow (x, two)", "Mul (x, x)") + "n = Div (x, r) y = Mul (n, w)",
}
NUMBERS = {"two": 2.0, "one": 1.0, "eps": 1e-5, "axes": [-1]}


def test_layer_norm():
    program = raw("y = LayerNormalization <epsilon = 0.001> (x, w, b)", w=(8,), b=(8,))
    assert fused(program).fused == {"AddNorm": 1}
    assert attribute(only(program, "AddNorm"), "epsilon") == pytest.approx(1e-3)


def test_addition_that_only_the_norm_reads():
    program = raw("s = Add (x, z) y = LayerNormalization (s, w)", inputs=TWO, w=(8,))
    assert fused(program).fused == {"AddNorm": 1}
    assert len(only(program, "AddNorm").outputs) == 1


def test_sum_that_others_read():
    program = raw(
        "s = Add (x, z) y = LayerNormalization (s, w) t = Relu (s)",
        inputs=TWO,
        outputs="float[1, tokens, 8] y, float[1, tokens, 8] s, float[1, tokens, 8] t",
        w=(8,),
    )
    assert fused(program).unfused == {"Relu": 1}
    assert [value.name for value in only(program, "AddNorm").outputs] == ["y", "s"]


def test_two_norms_of_one_sum():
    program = raw(
        "s = Add (x, z) y = LayerNormalization (s, w) t = LayerNormalization (s, v)",
        inputs=TWO,
        outputs="float[1, tokens, 8] y, float[1, tokens, 8] t",
        w=(8,),
        v=(8,),
    )
    assert fused(program).fused == {"AddNorm": 2}


def test_addition_that_broadcasts_stays():
    program = raw(
        "s = Add (x, z) y = LayerNormalization (s, w)", inputs="float[1, tokens, 8] x, float[1, 1, 8] z", w=(8,)
    )
    report = fused(program)
    assert report.fused == {"AddNorm": 1} and report.unfused == {"Add": 1}


def test_norm_over_more_axes_stays():
    program = raw(
        "y = LayerNormalization <axis = 1> (x, w)", inputs="float[1, 4, 8] x", outputs="float[1, 4, 8] y", w=(4, 8)
    )
    assert fused(program).unfused == {"LayerNormalization": 1}


@pytest.mark.parametrize("form", RMS)
def test_rms_norm_written_out(form):
    program = raw(RMS[form], w=(8,), **NUMBERS)
    report = fused(program)
    assert report.fused == {"AddNorm": 1} and not report.unfused
    assert attribute(only(program, "AddNorm"), "kind") == "rms"
    assert attribute(only(program, "AddNorm"), "epsilon") == pytest.approx(1e-5)


def test_rms_norm_without_weight():
    program = raw(MEAN_SQUARE + "y = Div (x, r)", **NUMBERS)
    assert fused(program).fused == {"AddNorm": 1}
    assert len(only(program, "AddNorm").inputs) == 1


def test_cubes_are_no_rms_norm():
    program = raw(MEAN_SQUARE + "y = Div (x, r)", **NUMBERS | {"two": 4.0})
    assert "AddNorm" not in fused(program).fused


def test_mean_of_tokens_is_no_rms_norm():
    program = raw(MEAN_SQUARE + "y = Div (x, r)", **NUMBERS | {"axes": [1]})
    assert "AddNorm" not in fused(program).fused


def test_layer_norm_written_out():
    program = raw(
        "a = ReduceMean <keepdims = 1> (x0, axes) x = Sub (x0, a) "
        + MEAN_SQUARE
        + "i = Reciprocal (r) n = Mul (x, i) g = Mul (w, n) y = Add (g, b)",
        inputs="float[1, tokens, 8] x0",
        w=(8,),
        b=(8,),
        **NUMBERS,
    )
    report = fused(program)
    assert report.fused == {"AddNorm": 1} and not report.unfused
    assert attribute(only(program, "AddNorm"), "kind") == "layer"


def test_norm_of_heads_before_they_are_transposed():
    program = raw(
        "h = Reshape (x, heads) t = Transpose <perm = [0, 2, 1, 3]> (h) n = LayerNormalization (t, w) "
        "u = Transpose <perm = [0, 2, 1, 3]> (n) y = Reshape (u, flat)",
        heads=[1, -1, 2, 4],
        flat=[1, -1, 8],
        w=(4,),
    )
    report = fused(program)
    assert report.fused == {"AddNorm": 1} and not report.unfused and report.shapes == {"Reshape": 2}
    assert str(only(program, "AddNorm").outputs[0].shape) == "[1,2*tokens,4]"
