"""Lines of attention that several bodies have: scores of grouped heads, a softmax under a mask, the result."""

from __future__ import annotations

SCORES = """
    q_float = Cast<to = 1>(q)
    k_float = Cast<to = 1>(k)
    v_float = Cast<to = 1>(v)
    tokens = Shape<start = 1, end = 2>(q)
    heads = Shape<start = 2, end = 3>(q)
    head_dim = Shape<start = 3, end = 4>(q)
    kv_heads = Shape<start = 2, end = 3>(k)
    group = Div(heads, kv_heads)
    batch = Shape<start = 0, end = 1>(q)
    q_heads = Transpose<perm = [0, 2, 1, 3]>(q_float)
    grouped = Concat<axis = 0>(kv_heads, group, tokens, head_dim)
    queries = Reshape<allowzero = 1>(q_heads, grouped)
    keys = Transpose<perm = [2, 0, 3, 1]>(k_float)
    values = Transpose<perm = [2, 0, 1, 3]>(v_float)
    scale_value = Constant<value_float: float = @scale>()
    products = MatMul(queries, keys)
    scaled = Mul(products, scale_value)
"""
"""`queries` [kv_heads, group, tokens, head_dim], `keys` [kv_heads, 1, head_dim, tokens], `values` [kv_heads, 1, tokens,
head_dim] and `scaled`, their scores [kv_heads, group, tokens, tokens]."""

HEADS_FIRST = """
    q_float = Cast<to = 1>(q)
    k_float = Cast<to = 1>(k)
    v_float = Cast<to = 1>(v)
    tokens = Shape<start = 1, end = 2>(q)
    queries = Transpose<perm = [0, 2, 1, 3]>(q_float)
    keys = Transpose<perm = [0, 2, 3, 1]>(k_float)
    values = Transpose<perm = [0, 2, 1, 3]>(v_float)
    scale_value = Constant<value_float: float = @scale>()
"""
"""`queries` and `values` [1, heads, tokens, head_dim] and `keys` [1, heads, head_dim, tokens], where every query head
has keys of its own."""

RESULT = """
    mixed = MatMul(weights, values)
    by_head = Concat<axis = 0>(batch, heads, tokens, head_dim)
    mixed_heads = Reshape<allowzero = 1>(mixed, by_head)
    out_float = Transpose<perm = [0, 2, 1, 3]>(mixed_heads)
    out = CastLike(out_float, q)
"""
"""After SCORES: `out` from `weights`."""


def masked_softmax(visible: str, scores: str, weights: str = "weights") -> str:
    """`weights` of the scores; of a row that sees nothing they are all alike."""
    return f"""
    lowest = Constant<value_float = -3.4028234663852886e38>()
    masked = Where({visible}, {scores}, lowest)
    {weights} = Softmax<axis = -1>(masked)
"""
