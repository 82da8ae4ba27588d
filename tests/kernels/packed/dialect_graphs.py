"""Small graphs of the dialect, written as text, saved with their weights beside them; and a layer in plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import torch
from onnx import numpy_helper

INPUTS = "int64[1, tokens] input_ids, int64[1, tokens] position_ids, int32[bounds] cu_seqlens"
DIM, HEADS, INNER, VOCABULARY, POSITIONS = 16, 2, 32, 40, 30
Weights = dict[str, np.ndarray]


def graph_of(
    nodes: str,
    outputs: str = "float[1, tokens, 16] last_hidden_state",
    weights: Mapping[str, np.ndarray] | None = None,
    inputs: str = INPUTS,
    opsets: str = '"": 20, "ridgeline": 1',
) -> onnx.ModelProto:
    """A model from the text of its nodes; weights are its initializers."""
    model = onnx.parser.parse_model(
        f"<ir_version: 10, opset_import: [{opsets}]> packed ({inputs}) => ({outputs}) {{ {nodes} }}"
    )
    for name, value in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def save(model: onnx.ModelProto, directory: Path, *, beside: bool = False) -> Path:
    """Write model.onnx, its weights inside or in model.onnx.data beside it."""
    path = directory / "model.onnx"
    options = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0} if beside else {}
    onnx.save(model, path, **options)
    return path


def bert_weights(layers: int = 2, seed: int = 0) -> Weights:
    """Random fp32 weights of `bert`."""
    rng = np.random.default_rng(seed)
    shapes = {"word": (VOCABULARY, DIM), "position": (POSITIONS, DIM), "norm_w": (DIM,), "norm_b": (DIM,)}
    for i in range(layers):
        shapes |= {
            f"qkv_w{i}": (3 * DIM, DIM),
            f"qkv_b{i}": (3 * DIM,),
            f"out_w{i}": (DIM, DIM),
            f"out_b{i}": (DIM,),
            f"mix_w{i}": (DIM,),
            f"mix_b{i}": (DIM,),
            f"up_w{i}": (INNER, DIM),
            f"up_b{i}": (INNER,),
            f"down_w{i}": (DIM, INNER),
            f"down_b{i}": (DIM,),
            f"end_w{i}": (DIM,),
            f"end_b{i}": (DIM,),
        }
    return {name: (rng.normal(size=shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}


def bert(layers: int = 2, seed: int = 0) -> onnx.ModelProto:
    """A fused encoder of post-norm layers, as the export writes it: outputs last_hidden_state and pooled."""
    text = ["x0 = ridgeline.EmbeddingLayerNorm (input_ids, word, position_ids, position, , , norm_w, norm_b)"]
    for i in range(layers):
        last = "last_hidden_state" if i == layers - 1 else f"x{i + 1}"
        text += [
            f"qkv{i} = ridgeline.Linear (x{i}, qkv_w{i}, qkv_b{i})",
            f"heads{i} = Reshape <allowzero = 0> (qkv{i}, heads_shape)",
            f"q{i}, k{i}, v{i} = Split <axis = 2, num_outputs = 3> (heads{i})",
            *(f"{x}s{i} = Squeeze ({x}{i}, two)" for x in "qkv"),
            f"a{i} = ridgeline.PackedAttention <scale = 0.35> (qs{i}, ks{i}, vs{i}, cu_seqlens)",
            f"r{i} = Reshape (a{i}, flat_shape)",
            f"o{i} = ridgeline.Linear (r{i}, out_w{i}, out_b{i})",
            f"m{i} = ridgeline.AddNorm (o{i}, x{i}, mix_w{i}, mix_b{i})",
            f'u{i} = ridgeline.Linear <activation = "gelu"> (m{i}, up_w{i}, up_b{i})',
            f"d{i} = ridgeline.Linear (u{i}, down_w{i}, down_b{i})",
            f"{last} = ridgeline.AddNorm (d{i}, m{i}, end_w{i}, end_b{i})",
        ]
    text.append("pooled = ridgeline.Pool (last_hidden_state, cu_seqlens)")
    shapes = {
        "heads_shape": np.array([0, -1, 3, HEADS, DIM // HEADS]),
        "flat_shape": np.array([1, -1, DIM]),
        "two": np.array([2]),
    }
    outputs = f"float[1, tokens, {DIM}] last_hidden_state, float[sequences, {DIM}] pooled"
    return graph_of("\n".join(text), outputs, {**bert_weights(layers, seed), **shapes})


def bert_by_torch(
    weights: Weights, lengths: Sequence[int], ids: torch.Tensor, layers: int = 2
) -> dict[str, torch.Tensor]:
    """What `bert` gives, one sequence at a time."""
    w = {name: torch.from_numpy(value) for name, value in weights.items()}
    states = []
    for part in ids[0].split(list(lengths)):
        x = _norm(w["word"][part] + w["position"][: len(part)], w["norm_w"], w["norm_b"], 1e-12)
        for i in range(layers):
            q, k, v = (x @ w[f"qkv_w{i}"].t() + w[f"qkv_b{i}"]).view(-1, 3, HEADS, DIM // HEADS).permute(1, 2, 0, 3)
            mixed = ((q @ k.transpose(1, 2) * 0.35).softmax(-1) @ v).transpose(0, 1).reshape(-1, DIM)
            mixed = mixed @ w[f"out_w{i}"].t() + w[f"out_b{i}"]
            x = _norm(mixed + x, w[f"mix_w{i}"], w[f"mix_b{i}"], 1e-5)
            inner = torch.nn.functional.gelu(x @ w[f"up_w{i}"].t() + w[f"up_b{i}"])
            x = _norm(inner @ w[f"down_w{i}"].t() + w[f"down_b{i}"] + x, w[f"end_w{i}"], w[f"end_b{i}"], 1e-5)
        states.append(x)
    pooled = torch.stack([x.mean(0) if len(x) else x.new_zeros(DIM) for x in states])
    return {"last_hidden_state": torch.cat(states).unsqueeze(0), "pooled": pooled}


def _norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)


def feed_of(lengths: Sequence[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ids of sequences laid end to end, with their positions and bounds."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(0, VOCABULARY, (1, sum(lengths)), generator=generator),
        "position_ids": torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0),
        "cu_seqlens": torch.tensor([0, *lengths]).cumsum(0).int(),
    }
