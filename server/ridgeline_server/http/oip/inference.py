"""From the tensors of a request to one request of the engine, and from its answer to tensors.

Outputs, for n inputs whose longest sequence has t tokens; rows past a sequence's end are zero:

    embedding                 [n, dim]: pooled, and scaled to unit length as the bundle or `normalize` says
    last_hidden_state         [n, t, dim]: token states
    logits                    [n, labels] of a classifier, [n, t, labels] of a token classifier
    scores, label             [n, labels], [n]: what the logits mean by the model's own function, the likeliest class
    start_logits, end_logits  [n, t]
    answer                    [n]: what `/tasks/{task}` answers to each input, as JSON

Embeddings and answers take their task's parameters; a parameter that is an array comes as JSON in a text.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.http.oip.reading import read_inputs
from ridgeline_server.http.oip.signature import ANSWER, outputs_of
from ridgeline_server.http.oip.tensors import Tensor, texts_tensor
from ridgeline_server.http.tasks.parameters import parse
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array, Readout, ReadoutKind
from ridgeline_server.tasks.base import Work
from ridgeline_server.tasks.registry import TASKS
from ridgeline_server.tasks.scores import class_names, default_function, finite, probabilities

_TOKENS = Readout(ReadoutKind.TOKENS)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for inference.

    outputs:    names of the tensors that are wanted, in their order; empty = the usual ones
    parameters: of the request, those of the transport left out
    """

    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] | None = None


def prepare(model: ModelInfo, asked: Asked, most_bytes: int) -> Work:
    """What to ask the engine for; the work's `finish` gives the output tensors.

    most_bytes: that an output may have which is padded to the longest input
    Raises InvalidInputError for tensors that the model does not take or give.
    """
    given = read_inputs(model, asked.inputs)
    wanted = asked.outputs or _usual(model, given.has_texts)
    _check_outputs(model, wanted)
    parameters = dict(asked.parameters or {})
    if ANSWER in wanted:
        return _answers(model, given.values, given.has_texts, wanted, parameters)
    if wanted == ("embedding",):
        return _task(model, "feature-extraction", given.values, parameters, _embeddings)
    if parameters:
        raise InvalidInputError(
            f"the parameter {next(iter(parameters))!r} has no meaning for the outputs {', '.join(wanted)}; leave it out"
        )
    if model.task == "text-classification":
        return Work(given.inputs, lambda result: _classes(model, result, wanted))
    if "embedding" in wanted:
        raise InvalidInputError("embedding and last_hidden_state come from separate requests; ask for one of them")
    return Work(given.inputs, lambda result: _rows(result, wanted, most_bytes), readout=_TOKENS)


def _usual(model: ModelInfo, has_texts: bool) -> tuple[str, ...]:
    """What is given when a request names no outputs."""
    names = tuple(spec.name for spec in outputs_of(model))
    if model.task == "text-classification":
        return names[:-1]
    if model.task == "feature-extraction" or not has_texts:
        return ("start_logits", "end_logits") if model.task == "question-answering" else names[:1]
    return (ANSWER,)


def _check_outputs(model: ModelInfo, wanted: Sequence[str]) -> None:
    names = [spec.name for spec in outputs_of(model)]
    unknown = next((name for name in wanted if name not in names), None)
    if unknown is not None:
        raise InvalidInputError(f"model '{model.name}' gives no output {unknown[:60]!r}; it gives: {', '.join(names)}")
    if len(set(wanted)) < len(wanted):
        raise InvalidInputError("an output is asked for twice; ask for each once")


def _task(
    model: ModelInfo,
    name: str,
    values: Sequence[Any],
    parameters: Mapping[str, Any],
    finish: Callable[[list[Any]], Any],
) -> Work:
    task = TASKS[name]
    work = task.prepare(model, values, parse(task.parameters, {key: _of_text(v) for key, v in parameters.items()}))

    def tensors(result: Result) -> list[Any]:
        found: list[Any] = finish(work.finish(result))
        return found

    return dataclasses.replace(work, finish=tensors)


def _of_text(value: Any) -> Any:
    """A parameter as a task takes it: the protocol has no arrays, so that they come as JSON."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _answers(
    model: ModelInfo, values: Sequence[Any], has_texts: bool, wanted: Sequence[str], parameters: Mapping[str, Any]
) -> Work:
    if tuple(wanted) != (ANSWER,):
        raise InvalidInputError(f"{ANSWER} comes in a request of its own; ask for it alone, or leave it out")
    if not has_texts:
        raise InvalidInputError(f"{ANSWER} tells of texts, and token ids were given; give texts, or ask for logits")

    def finish(answers: list[Any]) -> list[Tensor]:
        option = orjson.OPT_SERIALIZE_NUMPY
        return [texts_tensor(ANSWER, [orjson.dumps(answer, option=option) for answer in answers])]

    return _task(model, model.task, values, parameters, finish)


def _embeddings(answers: list[Any]) -> list[Tensor]:
    rows = np.stack([np.asarray(getattr(answer, "embedding", answer)) for answer in answers])
    return [Tensor("embedding", {"float32": "FP32", "int8": "INT8", "uint8": "UINT8"}[rows.dtype.name], rows)]


def _classes(model: ModelInfo, result: Result, wanted: Sequence[str]) -> list[Tensor]:
    logits = finite(result.outputs)
    classes = logits.shape[1]
    names = class_names(model, classes)
    tensors = {
        "logits": Tensor("logits", "FP32", logits),
        "scores": Tensor("scores", "FP32", probabilities(logits, default_function(model.problem, classes))),
        "label": texts_tensor("label", [names[int(row.argmax())] for row in logits]),
    }
    return [tensors[name] for name in wanted]


def _rows(result: Result, wanted: Sequence[str], most_bytes: int) -> list[Tensor]:
    arrays = result.arrays
    shape = (len(arrays), max(map(len, arrays)), arrays[0].shape[1])
    size_bytes = math.prod(shape) * arrays[0].itemsize
    if size_bytes > most_bytes:
        raise RequestTooLargeError(
            f"the output of shape {list(shape)}, padded to the longest input, takes {size_bytes} bytes; it may take "
            f"{most_bytes}: send fewer or shorter inputs at once, and those of like lengths together"
        )
    padded: Float32Array = np.zeros(shape, np.float32)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = finite(array)
    columns = {"start_logits": 0, "end_logits": 1}
    return [Tensor(name, "FP32", padded[:, :, columns[name]] if name in columns else padded) for name in wanted]
