"""Reranking: texts in the order of how well they answer a query, by a cross-encoder that reads both together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ridgeline_server.errors import InvalidInputError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind, Query
from ridgeline_server.tasks.pairs import check_pairs
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import SIGMOID, finite, probabilities, rank
from ridgeline_server.tasks.truncation import ABOUT_MAX_TOKENS, ABOUT_TRUNCATION, TRUNCATIONS, read_truncation


@dataclass(frozen=True, slots=True)
class Parameters:
    """Scores are sigmoids of the model's logits, as those of text-embeddings-inference, unless raw ones are asked for.

    sentence-transformers' CrossEncoder applies what the model's config names: for most a sigmoid too, for some
    (such as ms-marco-MiniLM-L6-v2 since its version 4) nothing, which is `raw_scores`. The order is the same.
    """

    raw_scores: bool = parameter(False, about="Tell the model's logits instead of numbers from 0 to 1.")
    top_n: int | None = parameter(None, about="How many texts to tell, the best first; all by default.", least=1)
    return_text: bool = parameter(False, about="Tell the texts too, not only their indices.")
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)
    max_tokens: int | None = parameter(None, about=ABOUT_MAX_TOKENS, least=1)


@dataclass(slots=True)  # not frozen: that doubles the time to make one, and an answer may hold thousands
class Ranked:
    """A text of the query's.

    index: where it stands in what was sent
    text:  None unless it was asked for
    """

    index: int
    score: float
    text: str | None = None


def prepare(model: ModelInfo, inputs: Query, parameters: Parameters) -> Work:
    """A pair for each text; the one answer: the texts from the highest score on.

    Of a pair that is too long, the longer text is cut. Texts whose scores are equal go by their logits, which differ
    where a sigmoid rounds to the same number, and then by their indices.
    Raises InvalidInputError when the model has several classes, RequestTooLargeError for too many texts.
    """
    if model.labels is not None:
        _check_classes(model, len(model.labels))
    query, texts = inputs.query, inputs.texts
    check_pairs(len(texts), "the query and its texts", "texts")
    truncate, reading = read_truncation(model, parameters.truncation, parameters.max_tokens)
    return Work(
        inputs=[(query, text) for text in texts],
        finish=partial(_finish, model, texts, parameters),
        reading=reading,
        truncate=truncate,
        name=lambda index: f"the pair of the query and text {index}",
    )


def _finish(model: ModelInfo, texts: tuple[str, ...], parameters: Parameters, result: Result) -> list[list[Ranked]]:
    _check_classes(model, result.outputs.shape[1])
    logits = finite(result.outputs)[:, 0]
    scores = logits if parameters.raw_scores else probabilities(logits, SIGMOID)
    order = rank(scores, parameters.top_n, logits)
    return [
        [
            Ranked(index, score, texts[index] if parameters.return_text else None)
            for index, score in zip(order.tolist(), scores[order].tolist(), strict=True)
        ]
    ]


def _check_classes(model: ModelInfo, classes: int) -> None:
    if classes != 1:
        raise InvalidInputError(
            f"model '{model.name}' scores {classes} classes, and ranking takes a model that gives one score (a "
            "cross-encoder); ask it for text-classification, or rank with another model of GET /v1/models"
        )


TASK = Task(
    name="text-ranking",
    about="Texts in the order of how well they answer a query, by a cross-encoder",
    models=("text-classification",),
    inputs=InputKind.QUERY,
    parameters=Parameters,
    prepare=prepare,
    example={
        "inputs": {"query": "What makes bread rise?", "texts": ["Yeast lets dough rise.", "Bread is sold here."]},
        "parameters": {"top_n": 1},
    },
    answer=Ranked,
    suits=lambda model: model.labels is None or len(model.labels) == 1,
)
