"""Heads, by task, as transformers' classes of that task have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from ridgeline_estimate.architecture import Head, Rows, Stack
from ridgeline_estimate.configs.kind import Kind, is_set
from ridgeline_estimate.configs.stacks import norm_parameters
from ridgeline_estimate.configs.values import Values
from ridgeline_estimate.errors import ShapeError

Role = Literal["encoder", "decoder", "encoder-decoder"]

_NONE = Head()
_DEFAULT_LABELS = 2
_QUESTION_ANSWERING_OUTPUTS = 2
# transformers 5 ties T5's head even where the config says otherwise.
_ALWAYS_TIED = frozenset({"t5"})
# Activations of the dense layer before the classes, where it is not tanh; a name in quotes is the config's.
_CLASSIFIER_ACTIVATIONS: Mapping[str, str] = {
    "distilbert": "relu",
    "electra": "gelu",
    "deberta-v2": "gelu",
    "eurobert": "gelu",
    "roformer": "gelu",
}


def read_head(values: Values, kind: Kind, stack: Stack, vocab: int, role: Role, task: str, *, is_base: bool) -> Head:
    """The head that runs on the stack's states.

    is_base: the task comes from the base class, whose pooler is part of it
    Raises ShapeError when models of that role have no such head.
    """
    if task == "feature-extraction":
        return Head(pooler=True) if is_base and kind.pooler and role == "encoder" else _NONE
    if role == "encoder":
        return _encoder_head(values, kind, stack, vocab, task)
    if role == "decoder":
        return _decoder_head(values, kind, vocab, task)
    return _encoder_decoder_head(values, kind, stack, vocab, task)


def labels(values: Values) -> int:
    """How many classes a classifier tells apart."""
    names = values.config.get("id2label")
    if isinstance(names, Mapping) and names:
        return len(names)
    return values.integer("num_labels", default=_DEFAULT_LABELS)


def is_tied(values: Values) -> bool:
    """Whether the language model's head is the word table."""
    return values.flag("tie_word_embeddings", True)


def masked_lm_head(values: Values, kind: Kind, stack: Stack, vocab: int) -> Head:
    """A dense layer, its activation and norm, and the word table."""
    if not kind.masked_lm_transform:
        return Head(rows="token", outputs=vocab, is_tied=is_tied(values), has_bias=is_set(values, kind.head_bias))
    in_embedding_width = values.model_type in ("albert", "electra", "roformer", "convbert") or (
        values.model_type in ("deberta", "deberta-v2") and values.flag("legacy", True)
    )
    head = Head(
        rows="token",
        transform=stack.embedding_size if in_embedding_width else stack.hidden,
        outputs=vocab,
        activation=values.text("activation", "gelu"),
        has_norm=True,
        is_tied=is_tied(values),
    )
    return _as_modernbert(values, kind, head) if values.model_type == "modernbert" else head


def _encoder_head(values: Values, kind: Kind, stack: Stack, vocab: int, task: str) -> Head:
    if task == "fill-mask":
        return masked_lm_head(values, kind, stack, vocab)
    if task in ("text-classification", "multiple-choice"):
        return _sequence_head(values, kind, stack, task)
    if task in ("token-classification", "question-answering"):
        head = Head(rows="token", outputs=labels(values))
        if values.model_type == "modernbert":
            head = _as_modernbert(values, kind, replace(head, transform=stack.hidden))
        return head
    raise _no_head(values, "an encoder", task)


def _sequence_head(values: Values, kind: Kind, stack: Stack, task: str) -> Head:
    outputs = labels(values) if task == "text-classification" else 1
    rows: Rows = "sequence" if task == "text-classification" else "choice"
    if kind.classifies_pooled or (task == "multiple-choice" and kind.pooler):
        return Head(rows=rows, outputs=outputs, pooler=True)
    activation = _CLASSIFIER_ACTIVATIONS.get(values.model_type, "tanh")
    if values.model_type == "eurobert" and values.text("classifier_pooling") == "late":
        rows = "token"  # it averages what it found for the tokens
    head = Head(rows=rows, transform=stack.hidden, outputs=outputs, activation=activation)
    return _as_modernbert(values, kind, head) if values.model_type == "modernbert" else head


def _as_modernbert(values: Values, kind: Kind, head: Head) -> Head:
    """Its dense layer has a norm behind it, and biases where the config says so."""
    return replace(
        head,
        activation=values.text("classifier_activation", "gelu"),
        has_norm=True,
        norm_parameters=norm_parameters(values, kind),
        transform_bias=values.flag("classifier_bias"),
        has_bias=not head.is_tied or values.flag("decoder_bias", True),
    )


def _decoder_head(values: Values, kind: Kind, vocab: int, task: str) -> Head:
    if task == "text-generation":
        return Head(rows="token", outputs=vocab, is_tied=is_tied(values), has_bias=is_set(values, kind.head_bias))
    if task == "text-classification":
        return Head(rows="token", outputs=labels(values), has_bias=False)
    if task == "token-classification":
        return Head(rows="token", outputs=labels(values))
    if task == "question-answering":
        return Head(rows="token", outputs=_QUESTION_ANSWERING_OUTPUTS)
    raise _no_head(values, "a decoder", task)


def _encoder_decoder_head(values: Values, kind: Kind, stack: Stack, vocab: int, task: str) -> Head:
    if task == "text2text-generation":
        tied = values.model_type in _ALWAYS_TIED or is_tied(values)
        return Head(rows="token", outputs=vocab, is_tied=tied, has_bias=is_set(values, kind.head_bias))
    if task == "text-classification":
        return Head(rows="sequence", transform=stack.hidden, outputs=labels(values))
    if task == "question-answering":
        return Head(rows="token", outputs=labels(values))
    raise _no_head(values, "an encoder-decoder", task)


def _no_head(values: Values, what: str, task: str) -> ShapeError:
    return ShapeError(f"a {values.model_type} model is {what}, which has no head for {task}; name another task")
