"""PackedAttention's and DisentangledAttention's bodies against loops over sequences in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.export.packed.one_op import BF16, Array, assert_close, run_op

LENGTHS = {
    "mixed": ([0, 5, 6, 13], 13),
    "empty sequences": ([0, 0, 4, 4, 4, 9, 9, 9], 9),
    "tokens after the end": ([0, 3, 7, 7, 7], 11),
    "one token": ([0, 1], 1),
}


def attend(
    q: Array,
    k: Array,
    v: Array,
    bounds: list[int],
    bias: Array | None,
    attributes: dict[str, Any],
) -> Array:
    """[1, tokens, heads, head_dim] of the tokens that belong to sequences, zero for others."""
    q, k, v = (x[0].astype(np.float64) for x in (q, k, v))
    out = np.zeros_like(q)
    for first, end in itertools.pairwise(bounds):
        for i in range(first, end):
            for head in range(q.shape[1]):
                kv_head = head * k.shape[1] // q.shape[1]
                keys, scores = [], []
                for j in range(first, end):
                    left, right = attributes.get("window_left", -1), attributes.get("window_right", -1)
                    if attributes.get("causal") and j > i:
                        continue
                    if (0 <= left < i - j) or (0 <= right < j - i):
                        continue
                    score = q[i, head] @ k[j, kv_head] * attributes["scale"]
                    if attributes.get("softcap"):
                        score = attributes["softcap"] * np.tanh(score / attributes["softcap"])
                    if bias is not None:
                        reach = bias.shape[1] // 2
                        score += bias[head, min(max(j - i, -reach), reach) + reach]
                    keys.append(j)
                    scores.append(score)
                weights = np.exp(np.array(scores) - max(scores))
                out[i, head] = weights / weights.sum() @ v[keys, kv_head]
    return out[None]


CASES: list[tuple[str, str, int, int, int, dict[str, Any]]] = [
    # lengths, dtype, heads, kv_heads, reach of the bias or 0, attributes
    ("mixed", "float32", 2, 2, 0, {}),
    ("empty sequences", "float16", 2, 2, 0, {}),
    ("tokens after the end", "float32", 4, 2, 2, {"causal": 1}),
    ("mixed", "float16", 3, 1, 20, {"softcap": 2.5}),
    ("one token", "float32", 2, 1, 1, {"window_left": 3, "window_right": 0}),
    ("mixed", "float32", 2, 2, 3, {"window_left": 0, "window_right": 2, "softcap": 0.5}),
    ("tokens after the end", "float16", 2, 1, 0, {"window_left": 2}),
    ("empty sequences", "float32", 6, 2, 1, {"window_right": 1}),
    ("mixed", "float32", 2, 2, 0, {"causal": 1, "window_left": 2, "window_right": 5, "softcap": 30.0}),
]


@pytest.mark.parametrize(("lengths", "dtype", "heads", "kv_heads", "reach", "attributes"), CASES)
def test_attention(lengths: str, dtype: str, heads: int, kv_heads: int, reach: int, attributes: dict[str, Any]) -> None:
    rng = np.random.default_rng(heads + reach)
    bounds, tokens = LENGTHS[lengths]
    q, k, v = (rng.normal(0, 1.5, (1, tokens, count, 5)).astype(dtype) for count in (heads, kv_heads, kv_heads))
    inputs = {"q": q, "k": k, "v": v, "cu_seqlens": np.array(bounds, np.int32)}
    bias = rng.normal(0, 1, (heads, 2 * reach + 1)).astype(np.float32) if reach else None
    if bias is not None:
        inputs["relative_bias"] = bias
    attributes = {"scale": 0.4} | attributes
    [out] = run_op("PackedAttention", inputs, attributes)
    assert out.dtype == np.dtype(dtype)
    wanted = attend(q, k, v, bounds, bias, attributes)
    assert np.isfinite(out).all()
    assert_close(out[:, : bounds[-1]], wanted[:, : bounds[-1]], np.dtype(dtype))


def test_sequences_never_meet() -> None:
    rng = np.random.default_rng(0)
    bounds = [0, 4, 4, 9]
    inputs = {name: rng.normal(size=(1, 12, 2, 4)).astype(np.float32) for name in "qkv"}
    inputs["cu_seqlens"] = np.array(bounds, np.int32)
    [before] = run_op("PackedAttention", inputs, {"scale": 0.5})
    for name in "qkv":
        inputs[name] = inputs[name].copy()
        inputs[name][:, 4:] = 1e4
    [after] = run_op("PackedAttention", inputs, {"scale": 0.5})
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.isfinite(after).all()


def test_no_tokens() -> None:
    inputs = {name: np.zeros((1, 0, 2, 4), np.float32) for name in "qkv"} | {"cu_seqlens": np.array([0, 0], np.int32)}
    [out] = run_op("PackedAttention", inputs, {"scale": 0.5, "causal": 1})
    assert out.shape == (1, 0, 2, 4)


def test_attention_in_bfloat16() -> None:
    rng = np.random.default_rng(1)
    inputs = {name: rng.normal(size=(1, 7, 2, 8)).astype(BF16) for name in "qkv"}
    inputs["cu_seqlens"] = np.array([0, 3, 7], np.int32)
    [out] = run_op("PackedAttention", inputs, {"scale": 0.3})
    wanted = attend(inputs["q"], inputs["k"], inputs["v"], [0, 3, 7], None, {"scale": 0.3})
    assert_close(out, wanted, BF16)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("by_query", "by_key"), [(True, True), (True, False), (False, True), (False, False)])
def test_disentangled_attention(dtype: str, by_query: bool, by_key: bool) -> None:
    rng = np.random.default_rng(2)
    heads, head_dim, columns, reach = 3, 4, 6, 4
    bounds, tokens = LENGTHS["tokens after the end"]
    q, k, v = (rng.normal(size=(1, tokens, heads, head_dim)).astype(dtype) for _ in range(3))
    buckets = rng.integers(0, columns, 2 * reach + 1).astype(np.int32)
    c2p, p2c = (rng.normal(size=(1, tokens, heads, columns)).astype(dtype) for _ in range(2))
    inputs = {"q": q, "k": k, "v": v, "cu_seqlens": np.array(bounds, np.int32), "buckets": buckets}
    inputs |= {"content_to_position": c2p} if by_query else {}
    inputs |= {"position_to_content": p2c} if by_key else {}
    [out] = run_op("DisentangledAttention", inputs, {"scale": 0.6})

    wanted = np.zeros((1, tokens, heads, head_dim))
    for first, end in itertools.pairwise(bounds):
        for i in range(first, end):
            for head in range(heads):
                scores = []
                for j in range(first, end):
                    column = buckets[min(max(i - j, -reach), reach) + reach]
                    score = float(q[0, i, head].astype(float) @ k[0, j, head].astype(float))
                    score += float(c2p[0, i, head, column]) if by_query else 0.0
                    score += float(p2c[0, j, head, column]) if by_key else 0.0
                    scores.append(0.6 * score)
                weights = np.exp(np.array(scores) - max(scores))
                wanted[0, i, head] = weights / weights.sum() @ v[0, first:end, head].astype(float)
    assert np.isfinite(out).all()
    assert_close(out[:, : bounds[-1]], wanted[:, : bounds[-1]], np.dtype(dtype))
