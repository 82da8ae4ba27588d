"""Zero-shot classification: labels of the user's own, each judged as a hypothesis by a model of entailment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter

import numpy as np

from ridgeline_server.errors import InvalidInputError, RequestTooLargeError
from ridgeline_server.request import ModelInfo, Result
from ridgeline_server.sequences import Cut, Float32Array
from ridgeline_server.tasks.base import Task, Work
from ridgeline_server.tasks.inputs import InputKind
from ridgeline_server.tasks.pairs import MOST_PAIRS, check_pairs
from ridgeline_server.tasks.parameters import parameter
from ridgeline_server.tasks.scores import SOFTMAX, finite, probabilities
from ridgeline_server.tasks.truncation import ABOUT_TRUNCATION, TRUNCATIONS, read_truncation

# A small request can have a long template written out for many labels.
_MOST_HYPOTHESES_CHARACTERS = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parameters:
    """Those of transformers' ZeroShotClassificationPipeline."""

    candidate_labels: tuple[str, ...] = parameter(about="The labels to choose among.", least=1, most=MOST_PAIRS)
    hypothesis_template: str = parameter(
        "This example is {}.", about="The sentence that a label is put into, in place of {}.", least=2, most=1_000
    )
    multi_label: bool = parameter(
        False, about="Several labels can be true: each gets a chance of its own, instead of all of them sharing one."
    )
    truncation: str | None = parameter(None, about=ABOUT_TRUNCATION, choices=TRUNCATIONS)


@dataclass(frozen=True, slots=True)
class LabelScores:
    """A text, and the labels with their scores, from the highest on."""

    sequence: str
    labels: list[str]
    scores: list[float]


def prepare(model: ModelInfo, inputs: Sequence[str | list[int]], parameters: Parameters) -> Work:
    """A sequence for each text and label, the text and the hypothesis; of what is too long, the text alone is cut.

    Raises InvalidInputError when the model is none of entailment, for token ids, and for a template or labels that
    make no hypotheses; RequestTooLargeError for too many pairs.
    """
    entailment = _entailment(model)
    texts = [value for value in inputs if isinstance(value, str)]
    if len(texts) < len(inputs):
        raise InvalidInputError(
            "`inputs` holds token ids, which cannot be joined with a hypothesis; give texts", "inputs"
        )
    labels = parameters.candidate_labels
    hypotheses = _hypotheses(parameters.hypothesis_template, labels)
    made_of = f"texts and labels ({len(texts)} × {len(labels)})"
    check_pairs(len(texts) * len(labels), made_of, "candidate_labels")
    truncate, reading = read_truncation(model, parameters.truncation, cut=Cut.FIRST)
    return Work(
        inputs=[(text, hypothesis) for text in texts for hypothesis in hypotheses],
        finish=partial(_finish, texts, labels, entailment, parameters.multi_label or len(labels) == 1),
        reading=reading,
        truncate=truncate,
        name=lambda index: f"the pair of text {index // len(labels)} and label {index % len(labels)}",
    )


def _finish(
    texts: list[str], labels: tuple[str, ...], entailment: int, is_independent: bool, result: Result
) -> list[LabelScores]:
    logits = finite(result.outputs)
    logits = logits.reshape(len(texts), len(labels), logits.shape[1])
    scores = _chances(logits, entailment) if is_independent else probabilities(logits[:, :, entailment], SOFTMAX)
    return [_sorted(text, labels, row) for text, row in zip(texts, scores, strict=True)]


def _chances(logits: Float32Array, entailment: int) -> Float32Array:
    """[texts, labels]: entailment against contradiction, which transformers takes to be the first or the last class."""
    contradiction = -1 if entailment == 0 else 0
    both: Float32Array = np.stack([logits[..., contradiction], logits[..., entailment]], axis=-1)
    return probabilities(both, SOFTMAX)[..., 1]


def _sorted(text: str, labels: tuple[str, ...], scores: Float32Array) -> LabelScores:
    # Of equal scores (labels that the tokenizer knows none of) transformers tells the last one first.
    order = np.argsort(scores, kind="stable")[::-1]
    return LabelScores(text, [labels[index] for index in order], scores[order].tolist())


def _find_entailment(model: ModelInfo) -> int | None:
    labels = model.labels or ()
    found = (index for index, label in enumerate(labels) if label.lower().startswith("entail"))
    return next(found, None) if len(labels) > 1 else None


def _entailment(model: ModelInfo) -> int:
    """Index of the class of entailment."""
    found = _find_entailment(model)
    if found is not None:
        return found
    labels = model.labels or ()
    have = ", ".join(repr(label[:40]) for label in labels[:8]) + (", …" if len(labels) > 8 else "")
    raise InvalidInputError(
        f"model '{model.name}' cannot classify zero-shot, which takes a classifier of entailment against others; its "
        f"classes are: {have or 'not named'}; ask a model trained on natural language inference"
    )


def _hypotheses(template: str, labels: tuple[str, ...]) -> list[str]:
    for index, label in enumerate(labels):
        if not label.strip():
            raise InvalidInputError(
                f"`candidate_labels[{index}]` is an empty text; name the label, or leave it out", "candidate_labels"
            )
    before, after = _around_label(template)
    characters = len(labels) * (len(before) + len(after)) + sum(map(len, labels))
    if characters > _MOST_HYPOTHESES_CHARACTERS:
        raise RequestTooLargeError(
            f"the {len(labels)} hypotheses have {characters} characters in all; those of one request may have "
            f"{_MOST_HYPOTHESES_CHARACTERS}: shorten the template, or give fewer labels",
            "hypothesis_template",
        )
    return [before + label + after for label in labels]


def _around_label(template: str) -> tuple[str, str]:
    """The texts before and after the label. Read as str.format reads it, but never formatted by it.

    A client's format string could ask for attributes of objects, and for gigabytes of padding.
    """
    texts = [""]
    try:
        for literal, field, specification, conversion in Formatter().parse(template):
            texts[-1] += literal
            if field is None:
                continue
            if field not in ("", "0") or specification or conversion:
                raise ValueError("it has more than {} in braces")
            texts.append("")
        if len(texts) != 2:
            raise ValueError(f"it has {len(texts) - 1} places for a label")
    except ValueError as error:
        raise InvalidInputError(
            f"`hypothesis_template` is {template[:60]!r}: {error}; give a sentence with one {{}} where the label goes, "
            "such as 'This example is {}.', and write other braces twice",
            "hypothesis_template",
        ) from None
    return texts[0], texts[1]


TASK = Task(
    name="zero-shot-classification",
    about="Scores of labels of your own for texts, by a model of entailment",
    models=("text-classification",),
    inputs=InputKind.TEXTS,
    parameters=Parameters,
    prepare=prepare,
    example={
        "inputs": "The parcel came two weeks late.",
        "parameters": {"candidate_labels": ["delivery", "price", "quality"]},
    },
    answer=LabelScores,
    suits=lambda model: _find_entailment(model) is not None,
    needs_text=True,
)
