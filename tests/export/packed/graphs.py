"""Small fp32 graphs of the dialect with random weights, written as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx_ir

from ridgeline_export.answers import run_graph
from ridgeline_export.convert import save_graph
from ridgeline_export.packed.attach import attach_bodies
from ridgeline_export.packed.rounding import run_in_float32

INPUTS = "int64[1, tokens] input_ids, int64[1, tokens] position_ids, int32[bounds] cu_seqlens"
DIM, HEADS, KV_HEADS, HEAD, INNER, VOCABULARY = 24, 4, 2, 6, 40, 50


def parse(nodes: str, outputs: str, weights: dict[str, np.ndarray], inputs: str = INPUTS) -> onnx_ir.Model:
    """A graph of the dialect from the text of its nodes; weights become its initializers."""
    text = f'<ir_version: 10, opset_import: ["": 20, "ridgeline": 1]> packed ({inputs}) => ({outputs}) {{ {nodes} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    return onnx_ir.from_proto(proto)


def random_weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """float32 weights by name, of a size that keeps activations near 1."""
    rng = np.random.default_rng(seed)
    scale = {name: 0.3 if len(shape) == 1 else shape[-1] ** -0.5 for name, shape in shapes.items()}
    return {name: (rng.normal(size=shape) * scale[name]).astype(np.float32) for name, shape in shapes.items()}


def pre_norm(seed: int = 0, **weights: np.ndarray) -> onnx_ir.Model:
    """One pre-norm layer of a gated model with grouped values, rotary angles from positions, and mean pooling.

    weights: arrays in place of the random ones
    """
    both = HEADS * HEAD + 2 * KV_HEADS * HEAD
    shapes: dict[str, Any] = {
        "word": (VOCABULARY, DIM),
        "norm_w": (DIM,),
        "norm_b": (DIM,),
        "qkv_w": (both, DIM),
        "qkv_b": (both,),
        "out_w": (DIM, HEADS * HEAD),
        "out_b": (DIM,),
        "norm2_w": (DIM,),
        "up_w": (2 * INNER, DIM),
        "down_w": (DIM, INNER),
        "last_w": (DIM,),
        "head_w": (DIM, DIM),
        "head_b": (DIM,),
    }
    arrays = random_weights(seed, **shapes)
    for name in ("norm_w", "norm2_w", "last_w"):
        arrays[name] += 1
    arrays |= {
        "sizes": np.array([HEADS * HEAD, KV_HEADS * HEAD, KV_HEADS * HEAD]),
        "q_shape": np.array([1, -1, HEADS, HEAD]),
        "kv_shape": np.array([1, -1, KV_HEADS, HEAD]),
        "flat": np.array([1, -1, HEADS * HEAD]),
        "frequency": (10000.0 ** -(np.arange(HEAD // 2) / (HEAD // 2))).astype(np.float32)[None, None],
        "axis": np.array([2]),
    }
    nodes = """
        place = Cast<to = 1>(position_ids)
        column = Unsqueeze(place, axis)
        angles = Mul(column, frequency)
        cos = Cos(angles)
        sin = Sin(angles)
        embedded = ridgeline.EmbeddingLayerNorm<normalize = 0>(input_ids, word)
        normed = ridgeline.AddNorm(embedded, , norm_w, norm_b)
        qkv = ridgeline.Linear(normed, qkv_w, qkv_b)
        q, k, v = Split<axis = -1>(qkv, sizes)
        q4 = Reshape(q, q_shape)
        k4 = Reshape(k, kv_shape)
        v4 = Reshape(v, kv_shape)
        q5, k5 = ridgeline.Rotary(q4, k4, cos, sin)
        attended = ridgeline.PackedAttention<scale = 0.4>(q5, k5, v4, cu_seqlens)
        joined = Reshape(attended, flat)
        projected = ridgeline.Linear(joined, out_w, out_b)
        normed2, stream = ridgeline.AddNorm<kind = "rms", epsilon = 1e-6>(projected, embedded, norm2_w)
        gate_up = ridgeline.Linear(normed2, up_w)
        gated = ridgeline.GatedActivation<activation = "silu">(gate_up)
        down = ridgeline.Linear(gated, down_w)
        states = ridgeline.AddNorm<kind = "rms", epsilon = 1e-6>(down, stream, last_w)
        last_hidden_state = ridgeline.Linear<activation = "tanh">(states, head_w, head_b)
        pooled = ridgeline.Pool(last_hidden_state, cu_seqlens)
    """
    outputs = f"float[sequences, {DIM}] pooled, float[1, tokens, {DIM}] last_hidden_state"
    return parse(nodes, outputs, arrays | weights)


def run(
    program: onnx_ir.Model,
    directory: Path,
    *,
    ids: np.ndarray | None = None,
    positions: np.ndarray | None = None,
    bounds: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What ONNX Runtime answers through the bodies; the graph is left as it is.

    ids, positions: int64 [1, tokens]; bounds: int32 [sequences + 1]. By default three sequences of 9, 1 and 5 tokens.
    """
    if ids is None:
        ids = np.random.default_rng(3).integers(0, VOCABULARY, (1, 15))
        bounds = np.array([0, 9, 10, 15], np.int32)
        positions = np.concatenate([np.arange(9), np.arange(1), np.arange(5)])[None]
    feed = {
        "input_ids": ids,
        "position_ids": np.arange(ids.shape[1])[None] if positions is None else positions,
        "cu_seqlens": np.array([0, ids.shape[1]], np.int32) if bounds is None else bounds,
    }
    copy = program.clone()
    run_in_float32(copy)
    attach_bodies(copy)
    directory.mkdir(exist_ok=True)
    session, names = run_graph(save_graph(copy, directory))
    return dict(session({name: feed[name] for name in names}))
