from __future__ import annotations

import numpy as np
import pytest

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

INPUTS = "float[1, tokens, 32] x, int64[1, tokens] position_ids, int32[bounds] cu_seqlens"
ANGLES = (
    "pu = Unsqueeze (position_ids, axis2) pf = Cast <to = 1> (pu) f = Mul (pf, freqs) {double} "
    "c3 = Cos (ff) s3 = Sin (ff) c = Unsqueeze (c3, axis1) s = Unsqueeze (s3, axis1) "
)
DOUBLE = "ff = Concat <axis = -1> (f, f)"
SPLIT = (
    "q0, k0, v0 = Split <axis = 2> (x, sizes) "
    "q1 = Reshape (q0, q_heads) k1 = Reshape (k0, k_heads) v = Reshape (v0, k_heads) "
    "q = Transpose <perm = [0, 2, 1, 3]> (q1) k = Transpose <perm = [0, 2, 1, 3]> (k1) "
)
HALVES = (
    "{0}a = Slice ({0}, zero, half, last) {0}b = Slice ({0}, half, end, last) {0}n = Neg ({0}b) "
    "{0}t = Concat <axis = -1> ({0}n, {0}a) {0}c = Mul ({0}, c) {0}s = Mul ({0}t, s) {0}r = Add ({0}c, {0}s) "
)
NEIGHBOURS = (
    "{0}a = Slice ({0}, zero, end, last, two) {0}b = Slice ({0}, one, end, last, two) {0}n = Neg ({0}b) "
    "{0}au = Unsqueeze ({0}a, axis4) {0}nu = Unsqueeze ({0}n, axis4) {0}st = Concat <axis = 4> ({0}nu, {0}au) "
    "{0}t = Reshape ({0}st, {0}_shape) {0}c = Mul (c, {0}) {0}s = Mul (s, {0}t) {0}r = Add ({0}s, {0}c) "
)
PAIRS = (
    "{0}a, {0}b = Split <axis = 3, num_outputs = 2> ({0}) {0}_1 = Mul ({0}a, c) {0}_2 = Mul ({0}b, s) "
    "{0}_3 = Mul ({0}b, c) {0}_4 = Mul ({0}a, s) {0}_5 = Sub ({0}_1, {0}_2) {0}_6 = Add ({0}_3, {0}_4) "
    "{0}r = Concat <axis = 3> ({0}_5, {0}_6) "
)
PARTIAL = (
    "{0}w = Slice ({0}, zero, rotated, last) {0}x = Slice ({0}, rotated, end, last) "
    + HALVES.replace("({0},", "({0}w,").replace("{0}r =", "{0}z =")
    + "{0}r = Concat <axis = 3> ({0}z, {0}x) "
)
ATTENTION = (
    "q_out = Transpose <perm = [0, 2, 1, 3]> (qr) k_out = Transpose <perm = [0, 2, 1, 3]> (kr) "
    "o = ridgeline.PackedAttention <scale = 0.5> (q_out, k_out, v, cu_seqlens) y = Reshape (o, flat)"
)
CONSTANTS = {
    "axis1": [1],
    "axis2": [2],
    "axis4": [4],
    "zero": [0],
    "one": [1],
    "two": [2],
    "half": [4],
    "rotated": [4],
    "last": [3],
    "end": [np.iinfo(np.int64).max],
    "sizes": [16, 8, 8],
    "q_heads": [1, -1, 2, 8],
    "k_heads": [1, -1, 1, 8],
    "q_shape": [1, 2, -1, 8],
    "k_shape": [1, 1, -1, 8],
    "flat": [1, -1, 16],
    "repeats": [1, 1, 1, 2],
    "doubled": [1, -1, 8],
    "freqs": (1, 1, 4),
}


def graph(rotation: str, *, double: str = DOUBLE, split: str = SPLIT, **constants: object):
    nodes = ANGLES.format(double=double) + split + rotation.format("q") + rotation.format("k") + ATTENTION
    return raw(
        nodes,
        inputs=INPUTS,
        outputs="float[1, tokens, 16] y",
        values="float[1, tokens, 2, 8] o",
        **CONSTANTS | constants,
    )


def check(program, interleaved=None):
    report = fused(program)
    assert report.fused == {"PackedAttention": 1, "Rotary": 1}
    assert report.unfused == {"Cast": 1, "Cos": 1, "Mul": 1, "Sin": 1}
    assert attribute(only(program, "Rotary"), "interleaved") == interleaved
    return only(program, "Rotary")


def test_halves():
    rotary = check(graph(HALVES))
    assert [str(value.shape) for value in rotary.inputs] == [
        "[1,tokens,2,8]", "[1,tokens,1,8]", "[1,tokens,4]", "[1,tokens,4]",
    ]  # fmt: skip


def test_pairs_by_angles_that_are_there_once():
    check(graph(PAIRS, double="ff = Identity (f)"))


def test_neighbours():
    repeat = "fu = Unsqueeze (f, axis3) ft = Tile (fu, repeats) ff = Reshape (ft, doubled)"
    check(graph(NEIGHBOURS, double=repeat, axis3=[3]), interleaved=1)


def test_first_dims_of_a_head():
    rotary = check(graph(PARTIAL, half=[2], freqs=(1, 1, 2)))
    assert str(rotary.inputs[2].shape) == "[1,tokens,2]"


def test_number_before_the_rotation_goes_into_the_scale():
    scaled = SPLIT.replace("q = Transpose", "q9 = Transpose") + "q = Mul (q9, eighth) "
    program = graph(HALVES, split=scaled, eighth=0.125)
    check(program)
    assert attribute(only(program, "PackedAttention"), "scale") == pytest.approx(0.0625)


@pytest.mark.parametrize(
    "double",
    [
        "g = Mul (f, f) ff = Concat <axis = -1> (f, g)",
        "fu = Unsqueeze (f, axis3) ft = Tile (fu, repeats) ff = Reshape (ft, doubled)",
    ],
)
def test_angles_that_differ_stay(double):
    program = graph(HALVES, double=double, axis3=[3])
    assert "Rotary" not in fused(program).fused


def test_turned_the_other_way_stays():
    program = graph(HALVES.replace("Neg ({0}b)", "Neg ({0}a)").replace("({0}n, {0}a)", "({0}b, {0}n)"))
    assert "Rotary" not in fused(program).fused
