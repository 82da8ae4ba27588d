"""Bodies of the approximate attentions against their plain definitions in PyTorch, one sequence at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ridgeline_export.packed.approximate_ops import (
    linformer_attention,
    local_global_attention,
    lsh_attention,
    nystrom_attention,
)
from tests.export.packed.one_op import BF16, Array, assert_close, run_op

FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "NystromAttention": nystrom_attention,
    "LinformerAttention": linformer_attention,
    "LshAttention": lsh_attention,
    "LocalGlobalAttention": local_global_attention,
}
TABLES = {
    "NystromAttention": ("conv_kernel",),
    "LinformerAttention": ("key_projection", "value_projection"),
    "LshAttention": ("rotations",),
    "LocalGlobalAttention": (),
}
LENGTHS = {
    "mixed": ([0, 70, 71, 80, 129], 129),
    "empty sequences": ([0, 0, 34, 34, 38, 90, 90], 90),
    "tokens after the end": ([0, 3, 45, 45], 90),
    "one token": ([0, 1], 1),
}
HEAD_DIM = 6
Shapes = dict[str, tuple[int, ...]]
CASES: list[tuple[str, str, str, tuple[int, int], Shapes, dict[str, Any]]] = [
    # op, lengths, dtype, heads and those of keys, tables, attributes
    ("NystromAttention", "mixed", "float32", (2, 2), {}, {"landmarks": 7, "iterations": 6}),
    ("NystromAttention", "empty sequences", "float32", (3, 3), {"conv_kernel": (3, 5)}, {"landmarks": 1}),
    ("NystromAttention", "tokens after the end", "float16", (2, 2), {"conv_kernel": (1, 3)}, {"landmarks": 41}),
    ("NystromAttention", "one token", "float32", (1, 1), {"conv_kernel": (1, 1)}, {"landmarks": 1}),
    ("NystromAttention", "mixed", "float32", (1, 1), {}, {"landmarks": 70, "iterations": 0}),
    ("NystromAttention", "mixed", "bfloat16", (2, 2), {"conv_kernel": (2, 9)}, {"landmarks": 16, "iterations": 3}),
    ("LinformerAttention", "mixed", "float32", (2, 2), {"key_projection": (1, 80, 9)}, {}),
    ("LinformerAttention", "one token", "float16", (2, 2), {"key_projection": (2, 8, 3)}, {}),
    (
        "LinformerAttention",
        "empty sequences",
        "float32",
        (3, 3),
        {"key_projection": (1, 60, 4), "value_projection": (3, 60, 4)},
        {},
    ),
    # Longer than the projection: zeros.
    ("LinformerAttention", "tokens after the end", "bfloat16", (2, 2), {"key_projection": (2, 30, 70)}, {}),
    ("LshAttention", "mixed", "float32", (2, 2), {"rotations": (1, 2, HEAD_DIM, 2)}, {"chunk": 16, "key_chunks": 2}),
    ("LshAttention", "mixed", "float32", (4, 2), {"rotations": (2, 1, HEAD_DIM, 9)}, {"chunk": 32, "key_chunks": 2}),
    (
        "LshAttention",
        "empty sequences",
        "float32",
        (2, 1),
        {"rotations": (1, 3, HEAD_DIM, 1)},
        {"chunk": 16, "key_chunks": 3},
    ),
    (
        "LshAttention",
        "tokens after the end",
        "float16",
        (2, 2),
        {"rotations": (2, 2, HEAD_DIM, 4)},
        {"chunk": 16, "key_chunks": 2},
    ),
    ("LshAttention", "one token", "float32", (1, 1), {"rotations": (1, 1, HEAD_DIM, 1)}, {"chunk": 16}),
    ("LocalGlobalAttention", "mixed", "float32", (2, 2), {}, {"window": 5, "global_tokens": 3}),
    ("LocalGlobalAttention", "empty sequences", "float16", (4, 2), {}, {"window": 0}),
    ("LocalGlobalAttention", "tokens after the end", "float32", (3, 1), {}, {"window": 2, "global_tokens": 100}),
    ("LocalGlobalAttention", "one token", "bfloat16", (2, 2), {}, {"window": 1000, "global_tokens": 1}),
]
DEFAULTS = {
    "NystromAttention": {"iterations": 6},
    "LinformerAttention": {},
    "LshAttention": {"key_chunks": 2},
    "LocalGlobalAttention": {"global_tokens": 0},
}


def given(tokens: int, heads: tuple[int, int], tables: Shapes, dtype: str, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    kind = BF16 if dtype == "bfloat16" else np.dtype(dtype)
    shapes = {"q": (1, tokens, heads[0], HEAD_DIM)} | dict.fromkeys("kv", (1, tokens, heads[1], HEAD_DIM)) | tables
    return {name: rng.normal(0, 1, shape).astype(kind) for name, shape in shapes.items()}


@pytest.mark.parametrize(("op", "lengths", "dtype", "heads", "tables", "attributes"), CASES)
def test_body(
    op: str, lengths: str, dtype: str, heads: tuple[int, int], tables: Shapes, attributes: dict[str, Any]
) -> None:
    bounds, tokens = LENGTHS[lengths]
    inputs = given(tokens, heads, tables, dtype, seed=heads[0] + tokens)
    cu_seqlens = np.array(bounds, np.int32)
    attributes = {"scale": 0.4} | DEFAULTS[op] | attributes
    [out] = run_op(op, inputs | {"cu_seqlens": cu_seqlens}, attributes)

    tensors = {name: torch.from_numpy(array.astype(np.float64)) for name, array in inputs.items()}
    arguments = [*(tensors[name] for name in "qkv"), torch.from_numpy(cu_seqlens)]
    # Hashes are those of float32: a sum on the other side of 0 is another bucket.
    if op == "LshAttention":
        arguments = [x.float() if x.is_floating_point() else x for x in arguments]
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
    wanted = FUNCTIONS[op](*arguments, *(tensors.get(name) for name in TABLES[op]), **attributes)
    end = bounds[-1]
    found = out[:, :end]
    kind = BF16 if dtype == "bfloat16" else np.dtype(dtype)
    assert np.isfinite(out).all()
    if op == "NystromAttention" and kind == np.float32:
        # Steps of the pseudo-inverse amplify what float32 rounds: 1,200 times in six.
        np.testing.assert_allclose(found, wanted[:, :end], atol=1e-4 * max(1.0, float(wanted.abs().max())))
    else:
        assert_close(found, wanted[:, :end].numpy(), kind)


ONE_OF_EACH: list[tuple[str, Shapes, dict[str, Any]]] = [
    ("NystromAttention", {"conv_kernel": (1, 3)}, {"landmarks": 4}),
    ("LinformerAttention", {"key_projection": (1, 40, 5)}, {}),
    ("LshAttention", {"rotations": (1, 2, HEAD_DIM, 3)}, {"chunk": 16, "key_chunks": 2, "causal": 1}),
    ("LshAttention", {"rotations": (1, 2, HEAD_DIM, 3)}, {"chunk": 16, "key_chunks": 2}),
    ("LocalGlobalAttention", {}, {"window": 2, "global_tokens": 2}),
]


@pytest.mark.parametrize(("op", "tables", "attributes"), ONE_OF_EACH)
def test_sequences_never_meet(op: str, tables: Shapes, attributes: dict[str, Any]) -> None:
    inputs = given(90, (2, 2), tables, "float32", seed=0) | {"cu_seqlens": np.array([0, 40, 40, 80], np.int32)}
    [before] = run_op(op, inputs, {"scale": 0.4} | attributes)
    for name in "qkv":
        inputs[name] = inputs[name].copy()
        inputs[name][:, 40:] = 1e4
    [after] = run_op(op, inputs, {"scale": 0.4} | attributes)
    np.testing.assert_array_equal(before[:, :40], after[:, :40])
    assert np.isfinite(after).all()


@pytest.mark.parametrize(("op", "tables", "attributes"), [case for case in ONE_OF_EACH if case[0][:3] != "Lin"])
def test_short_sequences_are_attended_exactly(op: str, tables: Shapes, attributes: dict[str, Any]) -> None:
    """As long as the landmarks, a window of keys, or a window with its global tokens."""
    inputs = given(12, (2, 2), {name: shape for name, shape in tables.items() if name == "rotations"}, "float32", 3)
    inputs["cu_seqlens"] = np.array([0, 3, 4, 8, 12], np.int32)
    [found] = run_op(op, inputs, {"scale": 0.4} | attributes)
    causal = {"causal": 1} if attributes.get("causal") else {}
    exact = {name: inputs[name] for name in ("q", "k", "v", "cu_seqlens")}
    [wanted] = run_op("PackedAttention", exact, {"scale": 0.4} | causal)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize("op", ["NystromAttention", "LinformerAttention", "LocalGlobalAttention"])
def test_no_tokens(op: str) -> None:
    _, tables, attributes = next(case for case in ONE_OF_EACH if case[0] == op)
    inputs = given(0, (2, 2), tables, "float32", 0) | {"cu_seqlens": np.array([0, 0], np.int32)}
    [out] = run_op(op, inputs, {"scale": 0.5} | attributes)
    assert out.shape == (1, 0, 2, HEAD_DIM)
