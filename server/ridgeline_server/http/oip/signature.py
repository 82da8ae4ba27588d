"""What a model takes and gives as tensors, by its bundle's task.

A model takes either texts (and what goes with them) or token ids. Sizes of -1 are free; the first is the number of
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_server.request import ModelInfo


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, data type and shape, -1 for what is free."""

    name: str
    datatype: str
    shape: tuple[int, ...]


TEXT, TEXT_PAIR = "text", "text_pair"
QUESTION, CONTEXT = "question", "context"
IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
ANSWER = "answer"
_IDS = tuple(TensorSpec(name, "INT64", (-1, -1)) for name in (IDS, MASK, TYPES))
_ANSWER = TensorSpec(ANSWER, "BYTES", (-1,))


def inputs_of(model: ModelInfo) -> tuple[TensorSpec, ...]:
    """All tensors that a model takes: texts first, then those of token ids, of which the ids alone are needed."""
    if model.task == "question-answering":
        texts: tuple[str, ...] = (QUESTION, CONTEXT)
    elif model.task == "text-classification":
        texts = (TEXT, TEXT_PAIR)
    else:
        texts = (TEXT,)
    given = tuple(TensorSpec(name, "BYTES", (-1,)) for name in texts)
    # What a fill-mask model gives for ids are the words of its masks, which is no tensor: it takes texts.
    return given if model.task == "fill-mask" else (*given, *_IDS)


def outputs_of(model: ModelInfo) -> tuple[TensorSpec, ...]:
    """All tensors that a model gives, the usual one first: see `inference.py` for what they hold."""
    labels = len(model.labels or ()) or -1
    match model.task:
        case "feature-extraction":
            return (
                TensorSpec("embedding", "FP32", (-1, model.dim)),
                TensorSpec("last_hidden_state", "FP32", (-1, -1, model.dim)),
            )
        case "text-classification":
            return (
                TensorSpec("logits", "FP32", (-1, labels)),
                TensorSpec("scores", "FP32", (-1, labels)),
                TensorSpec("label", "BYTES", (-1,)),
                _ANSWER,
            )
        case "token-classification":
            return TensorSpec("logits", "FP32", (-1, -1, labels)), _ANSWER
        case "question-answering":
            logits = (TensorSpec(name, "FP32", (-1, -1)) for name in ("start_logits", "end_logits"))
            return *logits, _ANSWER
        case _:
            return (_ANSWER,)
