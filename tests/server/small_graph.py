"""An ONNX graph that is made in a moment, and plans to run it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from ridgeline_server.request import Batch
from ridgeline_server.runtimes.base import Plan
from ridgeline_server.runtimes.devices import CPU
from ridgeline_server.runtimes.grid import make_grid

VOCABULARY, DIM = 50, 64
_RANDOM = np.random.default_rng(0)
TABLE = _RANDOM.standard_normal((VOCABULARY, DIM)).astype(np.float32)
WEIGHT = (_RANDOM.standard_normal((DIM, DIM)) / np.sqrt(DIM)).astype(np.float32)


def write_graph(path: Path) -> Path:
    """input_ids, attention_mask [batch, sequence] int64 → last_hidden_state = (TABLE[ids] * mask) @ WEIGHT, float32."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["masked"]),
        helper.make_node("MatMul", ["masked", "weight"], ["last_hidden_state"]),
    ]
    constants = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(WEIGHT, "weight"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
    ]
    axes = ["batch", "sequence"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*axes, DIM])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def small_plan(graph: Path, runtime: str = "onnxruntime", **changes: Any) -> Plan:
    """A plan in fp32 on the CPU, but for the changes."""
    fields = {
        "variant": "fp32",
        "runtime": runtime,
        "graph": graph,
        "precision": "fp32",
        "threads": 1,
        "concurrency": 1,
        "grid": make_grid(32, 128),
        "pad_token_id": 0,
        "outputs": ("last_hidden_state",),
        "why": "",
        "device": CPU,
        "inputs": ("input_ids", "attention_mask"),
        "fingerprint": "f",
    }
    return Plan(**{**fields, **changes})


def batch_of(*lengths: int) -> Batch:
    """A batch of sequences of these lengths, the ids counting up from 1."""
    ids = np.arange(1, sum(lengths) + 1, dtype=np.int32) % VOCABULARY
    return Batch(1, ids, np.array(lengths, np.int32))


def expected_states(batch: Batch) -> list[np.ndarray]:
    """What the graph answers: an array [length, DIM] a sequence."""
    ends = np.cumsum(batch.lengths)
    return [TABLE[ids] @ WEIGHT for ids in np.split(batch.input_ids, ends[:-1])]
