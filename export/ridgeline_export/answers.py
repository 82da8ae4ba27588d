"""What a model answers to texts, cut down to the rows that its task reads, from PyTorch or from a graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ridgeline_export.convert import OUTPUTS
from ridgeline_export.errors import ConversionError, first_line
from ridgeline_export.tokenizer import Feed

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
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base but Exception
        raise ConversionError(f"ONNX Runtime refuses the {path.parent.name} graph: {first_line(error)}") from error
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> Outputs:
        try:
            return dict(zip(names, session.run(names, feed), strict=True))
        except Exception as error:
            shape = feed["input_ids"].shape
            raise ConversionError(
                f"ONNX Runtime fails on the {path.parent.name} graph at shape {shape}: {first_line(error)}"
            ) from error

    return run


def answers(model: Model, task: str, batches: Sequence[Feed], mask_token_id: int | None = None) -> list[Array]:
    """One array [rows, values] a text: what its task reads.

    feature-extraction, token-classification: a row a real token; text-classification: one row of logits;
    question-answering: a row a real token, of its start and end logits; fill-mask: a row a masked position.
    """
    found: list[Array] = []
    for feed in batches:
        outputs = model(feed)
        found += [_rows(outputs, feed, row, task, mask_token_id) for row in range(len(feed["input_ids"]))]
    return found


def _rows(outputs: Outputs, feed: Feed, row: int, task: str, mask_token_id: int | None) -> Array:
    is_real = feed["attention_mask"][row] == 1
    if task == "text-classification":
        return outputs["logits"][row : row + 1].copy()
    if task == "question-answering":
        return np.stack([outputs["start_logits"][row], outputs["end_logits"][row]], axis=-1)[is_real]
    if task == "fill-mask":
        # A copy: a view would hold the whole batch's [batch, sequence, vocabulary] in memory.
        return outputs["logits"][row][feed["input_ids"][row] == mask_token_id]
    return outputs[OUTPUTS[task][0]][row][is_real]
