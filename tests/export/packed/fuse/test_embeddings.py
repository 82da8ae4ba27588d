from __future__ import annotations

import numpy as np

from tests.export.packed.fuse.graphs import attribute, fused, only, raw

IDS = "int64[1, tokens] input_ids, int64[1, tokens] position_ids, int64[1, tokens] token_type_ids"
LOOKUPS = "a = Gather (word, input_ids) p = Gather (position, position_ids) t = Gather (types, token_type_ids) "
TABLES = {"word": (20, 8), "position": (16, 8), "types": (12, 8), "w": (8,), "b": (8,)}


def names(node):
    return [None if value is None else value.name for value in node.inputs]


def test_three_tables_and_a_norm():
    program = raw(LOOKUPS + "s = Add (t, a) u = Add (s, p) y = LayerNormalization (u, w, b)", inputs=IDS, **TABLES)
    assert fused(program).fused == {"EmbeddingLayerNorm": 1}
    assert names(only(program, "EmbeddingLayerNorm")) == [
        "input_ids", "word", "position_ids", "position", "token_type_ids", "types", "w", "b",
    ]  # fmt: skip


def test_two_tables_without_norm():
    program = raw(LOOKUPS + "y = Add (a, p)", inputs=IDS, **TABLES)
    assert fused(program).fused == {"EmbeddingLayerNorm": 1}
    node = only(program, "EmbeddingLayerNorm")
    assert names(node) == ["input_ids", "word", "position_ids", "position"] and attribute(node, "normalize") == 0


def test_sum_that_others_read_is_not_normalized_inside():
    program = raw(
        LOOKUPS + "s = Add (a, p) y = LayerNormalization (s, w)",
        inputs=IDS,
        outputs="float[1, tokens, 8] y, float[1, tokens, 8] s",
        **TABLES,
    )
    assert fused(program).fused == {"AddNorm": 1, "EmbeddingLayerNorm": 1}


def test_constant_row_goes_into_the_smallest_table():
    program = raw(
        LOOKUPS + "s = Add (a, row) u = Add (s, t) y = LayerNormalization (u, w)", inputs=IDS, row=(1, 8), **TABLES
    )
    assert fused(program).fused == {"EmbeddingLayerNorm": 1}
    assert names(only(program, "EmbeddingLayerNorm"))[:6] == [
        "input_ids", "word", None, None, "token_type_ids", "types+row",
    ]  # fmt: skip


def test_offset_of_positions_cuts_the_table():
    program = raw(
        LOOKUPS + "q = Add (position_ids, two) o = Gather (position, q) y = Add (a, o)",
        inputs=IDS,
        two=np.array(2),
        **TABLES,
    )
    assert fused(program).fused == {"EmbeddingLayerNorm": 1}
    node = only(program, "EmbeddingLayerNorm")
    assert names(node)[2] == "position_ids" and node.inputs[3].const_value.shape == (14, 8)


def test_other_terms_stay():
    program = raw(LOOKUPS + "s = Add (a, p) y = Add (s, x)", inputs=IDS + ", float[1, tokens, 8] x", **TABLES)
    report = fused(program)
    assert report.fused == {"EmbeddingLayerNorm": 1} and report.unfused == {"Add": 1}
