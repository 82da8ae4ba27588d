from __future__ import annotations

from ridgeline_export.packed.fuse import FusionReport
from tests.export.packed.fuse.graphs import fused, raw


def test_views_that_cancel():
    program = raw("a = Reshape (x, flat) b = Unsqueeze (a, zero) y = Relu (b)", flat=[-1, 8], zero=[0])
    assert not fused(program).shapes


def test_views_that_follow_each_other():
    program = raw(
        "a = Reshape (x, five) b = Squeeze (a, two) y = Relu (b)",
        outputs="float[1, tokens, 2, 4] y",
        five=[1, -1, 1, 2, 4],
        two=[2],
    )
    assert fused(program).shapes == {"Reshape": 1}


def test_view_that_is_an_output_stays():
    program = raw("y = Reshape (x, same)", same=[1, -1, 8])
    assert fused(program).shapes == {"Reshape": 1}


def test_what_does_nothing_goes():
    program = raw("a = Cast <to = 1> (x) b = Mul (a, one) c = Div (b, one) y = Relu (c)", one=1.0)
    assert fused(program).unfused == {"Relu": 1}


def test_mask_of_ones_goes():
    program = raw(
        "n = Shape <start = 1, end = 2> (x) s = Concat <axis = 0> (one, n) e = Expand (ones, s) u = Unsqueeze (e, two) "
        "m = Mul (x, u) y = Relu (m)",
        values="float[1, tokens] e, float[1, tokens, 1] u, float[1, tokens, 8] m",
        one=[1],
        two=[2],
        ones=1.0,
    )
    assert fused(program).unfused == {"Relu": 1}


def test_a_number_that_widens_stays():
    program = raw("m = Mul (x, w) y = Relu (m)", inputs="float[1, tokens, 1] x", w=(8,))
    assert fused(program).unfused == {"Mul": 1, "Relu": 1}


def test_transposition_of_one_head_is_a_view():
    program = raw(
        "a = Unsqueeze (x, one) b, c = Split <axis = 3, num_outputs = 2> (a) t = Transpose <perm = [0, 2, 1, 3]> (b) "
        "y = Relu (t) z = Relu (c)",
        outputs="float[1, tokens, 1, 4] y, float[1, 1, tokens, 4] z",
        one=[1],
    )
    report = fused(program)
    assert report.unfused == {"Relu": 2} and report.shapes == {"Reshape": 2, "Split": 1}


def test_fusing_twice_changes_nothing():
    program = raw("h = MatMul (x, w) s = Add (h, x) y = LayerNormalization (s, g)", w=(8, 8), g=(8,))
    assert fused(program) == fused(program)


def test_report_tells_what_is_left():
    report = FusionReport({"Linear": 3, "AddNorm": 1}, {"Mul": 2, "Cos": 1}, {"Reshape": 9})
    assert report.describe() == ("4 ridgeline ops (3 Linear, 1 AddNorm); left unfused: 3 standard ops (2 Mul, 1 Cos)")
    assert FusionReport({"Linear": 1}, {}, {}).describe() == "1 ridgeline op (1 Linear); nothing is left unfused"
