"""Packed graphs that are written by hand in the dialect's ops, for tests of the estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto

from tests.estimate.graphs import FLOAT, INT8, INT64, Axes, node, write_graph, zeros

FLOATS: Mapping[str, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
CODES: Mapping[str, Any] = {"int8": np.int8, "fp8": ml_dtypes.float8_e4m3fn}
IDS: dict[str, tuple[int, Axes]] = {"input_ids": (INT64, (1, "tokens")), "position_ids": (INT64, (1, "tokens"))}
BOUNDS: dict[str, tuple[int, Axes]] = {"cu_seqlens": (TensorProto.INT32, ("bounds",))}
KINDS = {"fp32": FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "int8": INT8}


def op(op_type: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node of the dialect."""
    return node(op_type, inputs, outputs, domain="ridgeline", **attributes)


def write_packed(
    path: Path,
    nodes: Sequence[NodeProto],
    weights: Mapping[str, np.ndarray[Any, Any]],
    inputs: Mapping[str, tuple[int, Axes]] = IDS,
    functions: Sequence[FunctionProto] = (),
) -> Path:
    """Write a packed graph whose last node gives the output. The bounds are among its inputs."""
    domains = ("ridgeline",)
    outputs = [nodes[-1].output[0]]
    return write_graph(path, nodes, inputs | BOUNDS, outputs, weights, opset=20, functions=functions, domains=domains)


@dataclass
class Bert:
    """A BERT as it looks when all of it is fused.

    precision: of activations and weights
    codes: that linears are multiplied in, None = as they are
    """

    config: Mapping[str, Any]
    precision: str = "fp32"
    codes: str | None = None

    def write(self, path: Path) -> Path:
        """Its graph, with pooling."""
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self.nodes: list[NodeProto] = []
        width, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        tables = {"words": "vocab_size", "places": "max_position_embeddings", "types": "type_vocab_size"}
        for name, size in tables.items():
            self._weight(name, self.config[size], width)
        self._norm_weights("embeddings.norm")
        self.nodes.append(
            op("EmbeddingLayerNorm", f"input_ids words position_ids places types_ids types {self._norm}", "h0")
        )
        self.weights |= {"heads": np.array([1, -1, heads, width // heads]), "flat": np.array([1, -1, width])}
        for layer in range(self.config["num_hidden_layers"]):
            self._layer(layer)
        self.nodes.append(op("Pool", f"h{self.config['num_hidden_layers']} cu_seqlens", "pooled"))
        ids = IDS | {"types_ids": IDS["input_ids"]}
        return write_packed(path, self.nodes, self.weights, ids)

    def _layer(self, layer: int) -> None:
        width, inner = self.config["hidden_size"], self.config["intermediate_size"]
        path, x = f"layer.{layer}", f"h{layer}"
        qkv, attended, added, grown, shrunk = (f"{name}{layer}" for name in ("qkv", "attended", "n", "up", "down"))
        self._linear(f"{path}.attention.self.query", x, qkv, width, 3 * width)
        parts = [f"{qkv}.{part}" for part in "qkv"]
        self.nodes.append(node("Split", qkv, " ".join(parts), axis=2, num_outputs=3))
        self.nodes += [node("Reshape", f"{part} heads", f"{part}.heads") for part in parts]
        heads = " ".join(f"{part}.heads" for part in parts)
        self.nodes.append(op("PackedAttention", f"{heads} cu_seqlens", attended, scale=0.125))
        self.nodes.append(node("Reshape", f"{attended} flat", f"{attended}.flat"))
        self._linear(f"{path}.attention.output.dense", f"{attended}.flat", f"o{layer}", width, width)
        self._norm_weights(f"{path}.attention.output.LayerNorm")
        self.nodes.append(op("AddNorm", f"o{layer} {x} {self._norm}", added))
        self._linear(f"{path}.intermediate.dense", added, grown, width, inner, activation="gelu")
        self._linear(f"{path}.output.dense", grown, shrunk, inner, width)
        self._norm_weights(f"{path}.output.LayerNorm")
        self.nodes.append(op("AddNorm", f"{shrunk} {added} {self._norm}", f"h{layer + 1}"))

    def _linear(self, path: str, x: str, y: str, inputs: int, outputs: int, **attributes: Any) -> None:
        weight, bias = f"{path}.weight", f"{path}.bias"
        self._weight(bias, outputs)
        if self.codes is None:
            self._weight(weight, outputs, inputs)
            self.nodes.append(op("Linear", f"{x} {weight} {bias}", y, **attributes))
            return
        self.weights |= {weight: zeros(outputs, inputs, dtype=CODES[self.codes]), f"{path}.scale": zeros(outputs)}
        self.nodes.append(op("QuantizeRows", x, f"{y}.codes {y}.rows", format=self.codes))
        given = f"{y}.codes {y}.rows {weight} {path}.scale {bias}"
        kind = KINDS[self.precision]
        self.nodes.append(op("QuantizedLinear", given, y, format=self.codes, to=kind, **attributes))

    def _norm_weights(self, path: str) -> None:
        self._norm = f"{path}.weight {path}.bias"
        for name in self._norm.split():
            self._weight(name, self.config["hidden_size"])

    def _weight(self, name: str, *shape: int) -> None:
        self.weights[name] = zeros(*shape, dtype=FLOATS[self.precision])
