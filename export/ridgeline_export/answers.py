"""What a model answers to texts, cut down to the rows that its task reads, from PyTorch or from a graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.convert import OUTPUTS
from ridgeline_export.errors import ConversionError, summary
from ridgeline_export.tokenizer import Feed

# A packed sentence encoder's vectors, beside its token states.
POOLED = "pooled"

Array = NDArray[np.float32]
Outputs = Mapping[str, Array]
Model = Callable[[Feed], Outputs]


def torch_model(model: Any, task: str) -> Model:
    """The PyTorch model as a function from a batch to its outputs, float32."""
    import torch

    def run(feed: Feed) -> Outputs:
        with torch.inference_mode():
            outputs = model(**{name: torch.from_numpy(array) for name, array in feed.items()})
        return {name: outputs[name].numpy() for name in OUTPUTS[task]}

    return run


def graph_model(path: Path) -> Model:
    """The graph, run by ONNX Runtime on the CPU, as a function from a batch to its outputs, float32.

    Raises ConversionError when ONNX Runtime refuses the graph.
    """
    return run_graph(path)[0]


def run_graph(path: Path) -> tuple[Callable[[Mapping[str, Any]], Outputs], tuple[str, ...]]:
    """A function that runs a graph by ONNX Runtime on the CPU, from its inputs to its outputs, and the inputs' names.

    Raises ConversionError when ONNX Runtime refuses the graph, the function when it fails on an input.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ConversionError(f"ONNX Runtime refuses the {path.parent.name} graph: {summary(error)}") from error
    names = [output.name for output in session.get_outputs()]

    def run(feed: Mapping[str, Any]) -> Outputs:
        try:
            return dict(zip(names, session.run(names, feed), strict=True))
        except Exception as error:
            shape = feed["input_ids"].shape
            raise ConversionError(
                f"ONNX Runtime fails on the {path.parent.name} graph at shape {shape}: {summary(error)}"
            ) from error

    return run, tuple(value.name for value in session.get_inputs())


def answers(model: Model, task: str, batches: Sequence[Feed], mask_token_id: int | None = None) -> list[Array]:
    """What `answers_and_vectors` gives, without the vectors."""
    return answers_and_vectors(model, task, batches, mask_token_id)[0]


def answers_and_vectors(
    model: Model, task: str, batches: Sequence[Feed], mask_token_id: int | None = None
) -> tuple[list[Array], Array | None]:
    """The texts' answers, and the vectors [texts, dim] of a model that pools by itself, else None.

    One array [rows, values] a text: what its task reads.

    feature-extraction, token-classification: a row a real token; text-classification: one row of logits;
    question-answering: a row a real token, of its start and end logits; fill-mask: a row a masked position.
    """
    found: list[Array] = []
    vectors: list[Array] = []
    for feed in batches:
        outputs = model(feed)
        found += [_rows(outputs, feed, row, task, mask_token_id) for row in range(len(feed["input_ids"]))]
        if POOLED in outputs:
            vectors.append(outputs[POOLED])
    return found, np.concatenate(vectors) if vectors else None


def _rows(outputs: Outputs, feed: Feed, row: int, task: str, mask_token_id: int | None) -> Array:
    """A copy of what the task reads: a view would keep the whole batch's outputs in memory."""
    if task == "text-classification":
        return np.stack([outputs["logits"][row]])
    # [sequence, values]
    states = np.concatenate([outputs[name][row].reshape(len(feed["input_ids"][row]), -1) for name in OUTPUTS[task]], 1)
    is_read = feed["attention_mask"][row] == 1
    if task == "fill-mask":
        is_read = feed["input_ids"][row] == mask_token_id
    return np.compress(is_read, states, axis=0)
