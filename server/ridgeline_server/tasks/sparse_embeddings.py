"""Sparse embeddings (SPLADE): the terms of a model's vocabulary that a text is about, with their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array, Input, Readout, ReadoutKind
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.prompts import EmbeddingParameters, with_prompt
from ridgeline_server.tasks.scores import finite
from ridgeline_server.tasks.truncation import read_truncation


@dataclass(frozen=True, slots=True)
class Parameters(EmbeddingParameters):
    """Those of text-embeddings-inference's /embed_sparse, and how many terms are told."""

    top: int | None = parameter(
        None, about="Tell only so many terms, those of the largest weights; all by default.", least=1
    )
    least: float | None = parameter(None, about="Tell no terms of a smaller weight.", least=0, most=100)


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and a text may have thousands
class SparseValue:
    """A term's token id, and its weight: log(1 + the largest logit that the model gives it at any token)."""

    index: int
    value: float


def prepare(model: ModelInfo, inputs: Sequence[Input], parameters: Parameters) -> Work:
    """A sequence for each input; the answer to each: its terms of weights above 0, by token id.

    Raises InvalidInputError for parameters that contradict each other or that the model cannot have.
    """
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    return Work(
        inputs=with_prompt(model, inputs, parameters.prompt_name, parameters.prompt),
        finish=partial(_finish, parameters.top, parameters.least),
        reading=reading,
        readout=Readout(ReadoutKind.SPARSE),
        truncate=truncate,
    )


def _finish(top: int | None, least: float | None, result: Result) -> list[list[SparseValue]]:
    answers = []
    for terms in result.arrays:
        kept = _largest(finite(terms), top, least)
        ids, weights = kept[:, 0].astype(np.int64).tolist(), kept[:, 1].tolist()
        answers.append([SparseValue(index, value) for index, value in zip(ids, weights, strict=True)])
    return answers


def _largest(terms: Float32Array, top: int | None, least: float | None) -> Float32Array:
    """Those of [terms, 2] that are told, in their order; of equal weights the first."""
    if least is not None:
        terms = terms[terms[:, 1] >= least]
    if top is None or len(terms) <= top:
        return terms
    order = np.argsort(-terms[:, 1], kind="stable")[:top]
    return terms[np.sort(order)]


TASK = Task(
    name="sparse-embeddings",
    about="Sparse embeddings (SPLADE): weights of the vocabulary's terms for each text",
    models=("fill-mask",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={"inputs": ["How deep is the sea?"], "parameters": {"top": 16}},
    answer=SparseValue,
    suits=lambda model: model.pooling == "splade",
)
