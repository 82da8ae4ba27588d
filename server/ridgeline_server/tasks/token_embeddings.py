"""Token embeddings: a vector for each token of each text, as late interaction (ColBERT) compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Input, Reading, Readout, ReadoutKind
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.prompts import EmbeddingParameters, with_prompt
from ridgeline_server.tasks.scores import finite
from ridgeline_server.tasks.truncation import read_truncation
from ridgeline_server.tasks.vectors import (
    ABOUT_DIMENSIONS,
    ABOUT_ENCODING,
    ENCODINGS,
    FLOAT,
    check_dimensions,
    cut,
    quantize,
)


@dataclass(frozen=True, slots=True)
class Parameters(EmbeddingParameters):
    """As text-embeddings-inference's /embed_all, where all but the first of these are at their defaults."""

    normalize: bool = parameter(False, about="Scale each token's vector to unit length.")
    dimensions: int | None = parameter(None, about=ABOUT_DIMENSIONS, least=1)
    encoding: str = parameter(FLOAT, about=ABOUT_ENCODING, choices=ENCODINGS)
    special_tokens: bool = parameter(
        True, about="Tell the vectors of the special tokens around a text, too. The model reads them in any case."
    )
    ids: bool = parameter(False, about="Tell the token ids beside the vectors; each answer is then an object.")


@dataclass(frozen=True, slots=True)
class TokenEmbeddings:
    """The vectors of a text's tokens, and the ids of these tokens."""

    embeddings: npt.NDArray[Any]
    ids: npt.NDArray[np.int32]


def prepare(model: ModelInfo, inputs: Sequence[Input], parameters: Parameters) -> Work:
    """A sequence for each input; the answer to each: [tokens, dimensions], or with `ids` TokenEmbeddings.

    Raises InvalidInputError for parameters that contradict each other or that the model or the inputs cannot have.
    """
    check_dimensions(model, parameters.dimensions)
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    if not parameters.special_tokens:
        if not all(isinstance(value, str) for value in inputs):
            raise InvalidInputError(
                "`special_tokens` is false, and the inputs hold token ids, which do not say what is special; give "
                "texts, or leave it out",
                "special_tokens",
            )
        reading = replace(reading or Reading(), has_offsets=True)
    return Work(
        inputs=with_prompt(model, inputs, parameters.prompt_name, parameters.prompt),
        finish=partial(_finish, parameters),
        reading=reading,
        readout=Readout(ReadoutKind.TOKENS),
        truncate=truncate,
    )


def _finish(parameters: Parameters, result: Result) -> list[Any]:
    answers: list[Any] = []
    for states, tokens in zip(result.arrays, result.sequences, strict=True):
        ids = tokens.ids
        if not parameters.special_tokens:
            assert tokens.texts is not None, "they were asked for"
            is_text = tokens.texts >= 0
            states, ids = states[is_text], ids[is_text]
        rows = quantize(cut(finite(states), parameters.dimensions, parameters.normalize), parameters.encoding)
        answers.append(TokenEmbeddings(rows, np.ascontiguousarray(ids)) if parameters.ids else rows)
    return answers


TASK = Task(
    name="token-embeddings",
    about="Token embeddings: a vector for each token of a text, for late interaction",
    models=("feature-extraction",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["How deep is the sea?"], "parameters": {"normalize": True}},
    detailed=TokenEmbeddings,
)
