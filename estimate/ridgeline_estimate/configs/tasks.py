"""Which task a model runs: what its class says, or what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline_estimate.errors import ShapeError

TASKS = (
    "feature-extraction",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "multiple-choice",
    "text-generation",
    "text2text-generation",
)

_SYNONYMS: Mapping[str, str] = {
    "sentence-similarity": "feature-extraction",
    "sentence-embeddings": "feature-extraction",
    "sequence-classification": "text-classification",
    "ner": "token-classification",
    "masked-lm": "fill-mask",
    "causal-lm": "text-generation",
    "text-generation-with-past": "text-generation",
    "seq2seq-lm": "text2text-generation",
    "text2text-generation-with-past": "text2text-generation",
    "summarization": "text2text-generation",
    "translation": "text2text-generation",
}

# The first that fits counts.
_TASK_OF_SUFFIX: Mapping[str, str | None] = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForMultipleChoice": "multiple-choice",
    "ForCausalLM": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MarianMTModel": "text2text-generation",
    "DoubleHeadsModel": None,
    "LMHeadModel": "text-generation",
    "Model": "feature-extraction",
}


def class_name(config: Mapping[str, Any]) -> str | None:
    """The class in `architectures`; None when there is none. Raises ShapeError when it is no list of names."""
    names = config.get("architectures")
    if names is None or names == []:
        return None
    if not isinstance(names, (list, tuple)) or not isinstance(names[0], str):
        raise ShapeError(f"`architectures` is {names!r}; it should be a list of class names")
    return names[0]


def task_of(name: str | None, task: str | None) -> str:
    """The task that is asked for, else that of the class; a config without a class is of a base model.

    Raises ShapeError when it is unknown.
    """
    if task is not None:
        task = _SYNONYMS.get(task, task)
        if task not in TASKS:
            raise ShapeError(f"task '{task}' cannot be counted; known tasks: {', '.join(TASKS)}")
        return task
    if name is None:
        return "feature-extraction"
    found = next((found for suffix, found in _TASK_OF_SUFFIX.items() if name.endswith(suffix)), None)
    if found is None:
        raise ShapeError(f"cannot tell what the head of {name} computes; name the task: {', '.join(TASKS)}")
    return found
