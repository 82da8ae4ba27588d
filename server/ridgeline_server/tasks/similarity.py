"""Sentence similarity: how near the embeddings of sentences are to that of a source sentence."""

from __future__ import annotations

from dataclasses import dataclass

from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Float32Array
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind, Sentences
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.prompts import EmbeddingParameters, with_prompt
from ridgeline_server.tasks.scores import finite
from ridgeline_server.tasks.truncation import read_truncation

_COSINE, _DOT = _METRICS = ("cosine", "dot")


@dataclass(frozen=True, slots=True)
class Parameters(EmbeddingParameters):
    """Those of text-embeddings-inference's /similarity, and what is computed."""

    metric: str = parameter(
        _COSINE, about="cosine, or dot: the dot product of the embeddings as the model gives them.", choices=_METRICS
    )


def prepare(model: ModelInfo, inputs: Sentences, parameters: Parameters) -> Work:
    """A sequence for each sentence, the source's first; one answer: [sentences] float32.

    Raises InvalidInputError for parameters that contradict each other or that the model cannot have.
    """
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    texts = (inputs.source_sentence, *inputs.sentences)
    return Work(
        inputs=with_prompt(model, texts, parameters.prompt_name, parameters.prompt),
        finish=_finish,
        reading=reading,
        truncate=truncate,
        normalize=True if parameters.metric == _COSINE else None,
        name=lambda index: f"sentence {index - 1}" if index else "the source sentence",
    )


def _finish(result: Result) -> list[Float32Array]:
    vectors = result.outputs
    return [finite(vectors[1:] @ vectors[0])]


TASK = Task(
    name="sentence-similarity",
    about="How similar sentences are to a source sentence, by their embeddings",
    models=("feature-extraction",),
    inputs=InputKind.SENTENCES,
    parameters=Parameters,
    prepare=prepare,
    example={
        "inputs": {
            "source_sentence": "How deep is the sea?",
            "sentences": ["The sea is 3,688 m deep on average.", "It rains."],
        },
        "parameters": {},
    },
)
