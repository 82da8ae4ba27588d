from __future__ import annotations

import numpy as np
import pytest

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

TWO = "float[1, tokens, 8] x, float[1, tokens, 8] z"
NUMBERS = {
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "root": float(np.sqrt(2)),
    "k": float(np.sqrt(2 / np.pi)),
    "c": 0.044715,
    "quick": 1.702,
}
FORMS = {
    "d = Div (h, root) e = Erf (d) o = Add (e, one) m = Mul (h, half) y = Mul (m, o)": "gelu",
    "d = Div (h, root) e = Erf (d) o = Add (one, e) m = Mul (h, o) y = Mul (half, m)": "gelu",
    "p = Pow (h, three) q = Mul (c, p) i = Add (h, q) j = Mul (k, i) t = Tanh (j) o = Add (one, t) "
    "m = Mul (half, h) y = Mul (m, o)": "gelu_tanh",
    "f = Mul (h, k) g = Mul (h, c) l = Mul (g, h) n = Add (one, l) j = Mul (f, n) t = Tanh (j) o = Add (t, one) "
    "m = Mul (h, half) y = Mul (o, m)": "gelu_tanh",
}
OTHERS = {
    "quick gelu": "q = Mul (h, quick) s = Sigmoid (q) y = Mul (h, s)",
    "gelu by another factor": "d = Div (h, two) e = Erf (d) o = Add (e, one) m = Mul (h, half) y = Mul (m, o)",
    "gelu of two tensors": "d = Div (h, root) e = Erf (d) o = Add (e, one) m = Mul (x, half) y = Mul (m, o)",
}


@pytest.mark.parametrize("form", FORMS)
def test_gelu_written_out(form):
    program = raw("h = MatMul (x, w) " + form, w=(8, 8), **NUMBERS)
    report = fused(program)
    assert report.fused == {"Linear": 1} and not report.unfused
    assert attribute(only(program, "Linear"), "activation") == FORMS[form]


@pytest.mark.parametrize("form", OTHERS)
def test_other_functions_stay(form):
    program = raw("h = MatMul (x, w) " + OTHERS[form], w=(8, 8), **NUMBERS)
    fused(program)
    assert attribute(only(program, "Linear"), "activation") in (None, "none")


def test_gelu_of_a_sum():
    program = raw("h = Add (x, z) " + next(iter(FORMS)), inputs=TWO, **NUMBERS)
    assert fused(program).unfused == {"Add": 1, "Gelu": 1}
