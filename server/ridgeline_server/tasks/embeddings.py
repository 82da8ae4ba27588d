"""Embeddings: a vector for each text, pooled, cut, scaled and encoded as asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array, Input, Reading, Readout
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.pooling import POOLINGS
from ridgeline_server.tasks.prompts import EmbeddingParameters, with_prompt
from ridgeline_server.tasks.scores import finite
from ridgeline_server.tasks.truncation import read_truncation
from ridgeline_server.tasks.vectors import (
    ABOUT_DIMENSIONS,
    ABOUT_ENCODING,
    ENCODINGS,
    FLOAT,
    INT8,
    UINT8,
    check_dimensions,
    cut,
    quantize,
)

_WINDOWS = "windows"
_DEFAULT_POOLING = "mean"


@dataclass(frozen=True, slots=True)
class Parameters(EmbeddingParameters):
    """Those of sentence-transformers, text-embeddings-inference and OpenAI, and what becomes of long texts."""

    pooling: str | None = parameter(
        None, about="How token states become a vector; by default as the model was trained.", choices=tuple(POOLINGS)
    )
    normalize: bool | None = parameter(
        None, about="Scale embeddings to unit length, or do not; by default as the model was trained."
    )
    dimensions: int | None = parameter(None, about=ABOUT_DIMENSIONS, least=1)
    encoding: str = parameter(FLOAT, about=ABOUT_ENCODING, choices=ENCODINGS)
    long: str | None = parameter(
        None,
        about="windows: a text that is too long is split into windows of full length, and its embedding is the mean of "
        "theirs, weighted by their tokens; each answer is then an object that tells how many there were. A prompt "
        "stands in the first of them.",
        choices=(_WINDOWS,),
    )
    overlap: int | None = parameter(
        None,
        about="With `long` windows: how many tokens at its end a window shares with the next, up to half of the "
        "longest input; none by default.",
        least=0,
    )


@dataclass(frozen=True, slots=True)
class WindowedEmbedding:
    """The embedding of a text, and of how many windows it is the mean."""

    embedding: npt.NDArray[Any]
    windows: int


def prepare(model: ModelInfo, inputs: Sequence[Input], parameters: Parameters) -> Work:
    """A sequence for each input, or several with windows; the answer to each: its vector, or a WindowedEmbedding.

    Without parameters the Work is a plain one, with neither reading nor readout.
    Raises InvalidInputError for parameters that contradict each other or that the model cannot have.
    """
    check_dimensions(model, parameters.dimensions)
    if parameters.encoding in (INT8, UINT8) and parameters.normalize is False:
        raise InvalidInputError(
            f"`normalize` is false, and `encoding` {parameters.encoding} is of embeddings at unit length; leave one of "
            "them out",
            "normalize",
        )
    work = Work(
        inputs=with_prompt(model, inputs, parameters.prompt_name, parameters.prompt),
        finish=partial(_finish, parameters.encoding),
        normalize=parameters.normalize,
    )
    if parameters.pooling not in (None, model.pooling or _DEFAULT_POOLING):
        work = replace(work, readout=Readout(pooling=parameters.pooling))
    is_normalized = model.normalize if parameters.normalize is None else parameters.normalize
    if parameters.long is not None:
        finish: Any = partial(_finish_windows, parameters, is_normalized, len(inputs))
        return replace(work, finish=finish, reading=_windows(model, parameters), normalize=False)
    if parameters.overlap is not None:
        raise InvalidInputError("`overlap` is of windows; give `long` as windows too, or leave it out", "overlap")
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    work = replace(work, truncate=truncate, reading=reading)
    if parameters.dimensions is not None:
        work = replace(work, finish=partial(_finish_cut, parameters, is_normalized), normalize=False)
    return work


def _windows(model: ModelInfo, parameters: Parameters) -> Reading:
    if parameters.truncation is not None:
        raise InvalidInputError(
            "`long` is windows, so that nothing is truncated; leave it or `truncation` out", "truncation"
        )
    _, reading = read_truncation(model, None, parameters.max_tokens)
    overlap = parameters.overlap or 0
    most = (parameters.max_tokens or model.max_tokens) // 2
    if overlap > most:  # an overlap near the windows' length makes as many windows as there are tokens
        raise InvalidInputError(
            f"`overlap` is {overlap}; windows may share half of their tokens: give at most {most}", "overlap"
        )
    return replace(reading or Reading(), overlap=overlap)


def _finish(encoding: str, result: Result) -> list[Any]:
    return list(quantize(finite(result.outputs), encoding))


def _finish_cut(parameters: Parameters, is_normalized: bool, result: Result) -> list[Any]:
    return list(quantize(cut(finite(result.outputs), parameters.dimensions, is_normalized), parameters.encoding))


def _finish_windows(
    parameters: Parameters, is_normalized: bool, inputs: int, result: Result
) -> list[WindowedEmbedding]:
    owners = np.array([tokens.input for tokens in result.sequences])
    means = mean_of_windows(finite(result.outputs), owners, result.tokens, inputs)
    vectors = cut(means, parameters.dimensions, is_normalized)
    counts = np.bincount(owners, minlength=inputs).tolist()
    rows = quantize(vectors, parameters.encoding)
    return [WindowedEmbedding(row, count) for row, count in zip(rows, counts, strict=True)]


def mean_of_windows(
    vectors: Float32Array, owners: npt.NDArray[np.integer], tokens: Sequence[int], inputs: int
) -> Float32Array:
    """The mean of each input's windows, weighted by their tokens; of mean pooling, so, that of all their token states.

    vectors: [windows, dim] float32, not normalized
    owners:  [windows] index of each one's input, 0 to inputs - 1, of which each has a window
    tokens:  of each window, special tokens included
    returns  [inputs, dim] float32; an input of one window has that window's vector
    """
    weights = np.asarray(tokens, dtype=np.float64)
    sums = np.zeros((inputs, vectors.shape[1]))
    np.add.at(sums, owners, vectors * weights[:, None])
    means: Float32Array = (sums / np.bincount(owners, weights, inputs)[:, None]).astype(np.float32)
    return means


TASK = Task(
    name="feature-extraction",
    about="Embeddings: a vector for each text",
    models=("feature-extraction",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["How deep is the sea?", "The sea is 3,688 m deep on average."], "parameters": {}},
    detailed=WindowedEmbedding,
)
