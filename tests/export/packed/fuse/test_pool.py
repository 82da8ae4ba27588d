from __future__ import annotations

import pytest

from tests.export.packed.fuse.graphs import attribute, fused, raw

POOL = 'p = ridgeline.Pool <method = "first"> (x, cu_seqlens) '
NORM = POOL + "n = ReduceL2 <keepdims = 1> (p, axes) m = Max (n, floor) y = Div (p, m)"
INPUTS = "float[1, tokens, 8] x, int32[bounds] cu_seqlens"


def graph(nodes: str, outputs: str = "float[sequences, 8] y", floor: float = 1e-12):
    return raw(nodes, inputs=INPUTS, outputs=outputs, values="float[sequences, 8] p", axes=[1], floor=floor)


def test_length_one():
    program = graph(NORM)
    report = fused(program)
    assert report.fused == {"Pool": 1} and not report.unfused
    (pool,) = program.graph
    assert attribute(pool, "normalize") == 1 and attribute(pool, "method") == "first"


def test_pooled_output_keeps_its_own_pool():
    program = graph(NORM, "float[sequences, 8] y, float[sequences, 8] p")
    report = fused(program)
    assert report.fused == {"Pool": 2} and not report.unfused


@pytest.mark.parametrize("change", [("keepdims = 1> (p, axes)", "keepdims = 1> (p)"), ("1e-12", "1e-3")])
def test_other_lengths_stay(change):
    floor = float(change[1]) if change[0] == "1e-12" else 1e-12
    program = graph(NORM.replace(*change), floor=floor)
    assert fused(program).unfused == {"Div": 1, "Max": 1, "ReduceL2": 1}
