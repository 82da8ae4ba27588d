"""Text classification: the scores of a classifier's classes for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Input
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import FUNCTIONS, NONE, class_names, default_function, finite, probabilities
from ridgeline_server.tasks.truncation import ABOUT_MAX_TOKENS, ABOUT_TRUNCATION, TRUNCATIONS, read_truncation


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of transformers' TextClassificationPipeline, but all classes are told unless `top_k` is given."""

    top_k: int | None = parameter(None, about="How many classes to tell, the likeliest first; all by default.", least=1)
    function_to_apply: str | None = parameter(
        None,
        about="What makes scores of the model's logits. By default what its config asks for: sigmoid for several "
        "labels at once or a single class, none for regression, else softmax.",
        choices=FUNCTIONS,
    )
    raw_scores: bool = parameter(False, about="Tell the model's logits: the same as `function_to_apply` none.")
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)
    max_tokens: int | None = parameter(None, about=ABOUT_MAX_TOKENS, least=1)


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and an answer may hold tens of thousands
class ClassScore:
    """A class and its score."""

    label: str
    score: float


def prepare(model: ModelInfo, inputs: Sequence[Input], parameters: Parameters) -> Work:
    """One sequence for each text or pair; the answer to each: its classes from the highest score on.

    Classes of equal scores stay in the model's order. A pair with an empty second text is read as the first alone,
    as transformers does.
    Raises InvalidInputError for parameters that contradict each other or that the model cannot have.
    """
    function = parameters.function_to_apply
    if parameters.raw_scores and function not in (None, NONE):
        raise InvalidInputError(
            f'`raw_scores` is true and `function_to_apply` is "{function}"; leave one of them out', "raw_scores"
        )
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    return Work(
        inputs=[value[0] if type(value) is tuple and not value[1] else value for value in inputs],
        finish=partial(_finish, model, NONE if parameters.raw_scores else function, parameters.top_k),
        reading=reading,
        truncate=truncate,
    )


def _finish(model: ModelInfo, function: str | None, top_k: int | None, result: Result) -> list[list[ClassScore]]:
    logits = finite(result.outputs)
    classes = logits.shape[1]
    scores = probabilities(logits, function or default_function(model.problem, classes))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    names = class_names(model, classes)
    values = np.take_along_axis(scores, order, axis=1).tolist()
    return [
        [ClassScore(names[index], value) for index, value in zip(indices, row, strict=True)]
        for indices, row in zip(order.tolist(), values, strict=True)
    ]


TASK = Task(
    name="text-classification",
    about="Classes of texts or pairs of texts, with their scores",
    models=("text-classification",),
    inputs=InputKind.PAIRS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["I like this very much.", "Not again!"], "parameters": {"top_k": 1}},
    answer=ClassScore,
)
